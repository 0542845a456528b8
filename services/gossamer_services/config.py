"""The whole configuration of ``gossamer serve``: a YAML file, changed by ``--set``, and printed with every meaning."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from gossamer_services.common.errors import SettingsError
from gossamer_services.common.settings import Section, ServerSettings, StateSettings
from gossamer_services.fleet.settings import FleetSettings
from gossamer_services.optimizer.settings import OptimizerSettings
from gossamer_services.registry.settings import RegistrySettings
from gossamer_services.upstream.settings import UpstreamSettings


class Config(Section):
    """Every setting, by section."""

    server: ServerSettings = Field(default_factory=ServerSettings)
    state: StateSettings = Field(default_factory=StateSettings)
    registry: RegistrySettings = Field(default_factory=RegistrySettings)
    fleet: FleetSettings = Field(default_factory=FleetSettings)
    optimizer: OptimizerSettings = Field(default_factory=OptimizerSettings)
    upstream: UpstreamSettings = Field(default_factory=UpstreamSettings)


def load(path: Path | None, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file and change it by ``section.setting=value`` texts; values are YAML.

    Raises:
        SettingsError: the file cannot be read, or a setting is unknown or wrong; every such setting is named.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            read = yaml.safe_load(path.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
            reason = str(e).splitlines()[0]
            raise SettingsError(f"the configuration cannot be read: {reason}", where=str(path)) from e
        if not isinstance(read or {}, dict):
            raise SettingsError("the configuration is not a mapping of sections", where=str(path))
        values = {k: dict(v) if isinstance(v, Mapping) else v for k, v in (read or {}).items()}
    for text in overrides:
        name, equals, value = text.partition("=")
        section, dot, setting = name.partition(".")
        if not (equals and dot and setting):
            raise SettingsError(f"{text!r} is not section.setting=value", where="--set")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError as e:
            raise SettingsError(f"the value of {name} is not YAML: {str(e).splitlines()[0]}", where="--set") from e
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise SettingsError(f"{section} is not a section", where=str(path))
        inner[setting] = "" if parsed is None else parsed
    try:
        return Config.model_validate(values)
    except ValidationError as e:
        problems = [f"{'.'.join(str(p) for p in d['loc'])}: {d['msg']}" for d in e.errors()]
        raise SettingsError(
            "; ".join(problems),
            where=str(path) if path else "--set",
            hint="`gossamer serve --print-config` shows every setting and its meaning",
        ) from e


def render(config: Config) -> str:
    """The configuration as YAML that :func:`load` reads, with the meaning of every setting above it."""
    lines = []
    for name, field in type(config).model_fields.items():
        section: Section = getattr(config, name)
        assert field.annotation is not None
        lines += [f"# {(type(section).__doc__ or '').strip()}", f"{name}:"]
        for setting, about in type(section).model_fields.items():
            value = getattr(section, setting)
            lines += [f"  # {' '.join((about.description or '').split())}"]
            lines += [f"  {setting}: {json.dumps(str(value) if isinstance(value, Path) else value)}"]
        lines.append("")
    return "\n".join(lines)
