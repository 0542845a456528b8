"""The fleet: devices and their certificates, what each should run, rollouts in stages, profile records."""
