/**
 * Tests of the web runtime. GOSSAMER_TEST_BUNDLES names a folder that tests/native/test_web.py fills: bundles, raw inputs
 * and the native results, listed in cases.json.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';

import { GossamerError, Session, detect } from './gossamer.mjs';

const folder = process.env.GOSSAMER_TEST_BUNDLES;
const skip = folder === undefined ? 'run by tests/native/test_web.py, which sets GOSSAMER_TEST_BUNDLES' : false;
const file = (name) => readFileSync(`${folder}/${name}`);
const description = folder ? JSON.parse(file('cases.json').toString()) : { cases: [] };
const place = folder ? { base: pathToFileURL(`${description.wasm}/`), relaxed: description.relaxed } : {};
const arrays = { int8: Int8Array, float32: Float32Array, uint8: Uint8Array };
const values = (name, dtype) => new arrays[dtype](Uint8Array.from(file(name)).buffer);

test('this engine is recognised', () => {
  assert.equal(detect().simd, true);
  if (process.execArgv.includes('--experimental-wasm-relaxed-simd')) assert.equal(detect().relaxed, true);
});

for (const c of description.cases)
  test(`${c.bundle} gives the native result`, { skip }, async () => {
    const session = await Session.open(file(c.bundle), { verify: false, ...place });
    assert.deepEqual(session.inputs.map((p) => p.shape), c.inputs.map((i) => i.shape));
    const inputs = c.inputs.map((i) => values(i.file, i.dtype));
    for (let again = 0; again < 2; again++) {
      const results = session.run(inputs);
      for (const [i, expected] of c.outputs.entries()) {
        const got = results[session.outputs[i].name];
        const want = values(expected.file, expected.dtype);
        assert.equal(got.length, want.length);
        if (expected.dtype === 'int8') assert.deepEqual(got, want);
        else want.forEach((v, k) => assert.ok(Math.abs(got[k] - v) <= 1e-4 * Math.max(1, Math.abs(v)), `${k}: ${got[k]} ${v}`));
      }
    }
    const profile = session.profile(inputs, { runs: 3, warmup: 0 });
    assert.equal(profile.operators.length, c.operators);
    assert.ok((description.relaxed ? ['wasmrelaxed', 'wasmdot'] : ['wasm128']).includes(profile.isa), profile.isa);
    assert.ok(profile.operators.every((o) => o.min_us <= o.median_us && o.median_us <= o.p90_us));
    session.close();
    assert.throws(() => session.run(inputs), /closed/);
  });

test('wrong use is refused with what is needed', { skip }, async () => {
  const c = description.cases[0];
  const bytes = file(c.bundle);
  const session = await Session.open(bytes, { verify: false, ...place });
  assert.throws(() => session.run([]), /0 inputs were given; the model has 1/);
  assert.throws(() => session.run([new Float64Array(4)]), (e) => e instanceof GossamerError && /needs Int8Array of/.test(e.message));
  assert.throws(() => session.run([new Int8Array(3)]), /not of 3/);
  assert.throws(() => session.profile([], { runs: 0 }), /runs must be 1 or more/);
  session.close();
  await assert.rejects(Session.open(bytes, { ...place }), /trustedKeys/);
  await assert.rejects(Session.open(bytes, { trustedKeys: [new Uint8Array(3)], ...place }), /32 bytes/);
  await assert.rejects(Session.open(bytes, { verify: false, isa: 'avx9', ...place }), /no instruction set/);
});

test('broken and unsigned bundles are refused', { skip }, async () => {
  const bytes = file(description.cases[0].bundle);
  const key = new Uint8Array(32).fill(7);
  await assert.rejects(Session.open(bytes, { trustedKeys: [key], ...place }), (e) => e.status === 'SIGNATURE');
  await assert.rejects(Session.open(bytes.subarray(0, 100), { verify: false, ...place }), (e) => e.status === 'FORMAT');
  await assert.rejects(Session.open(new Uint8Array(0), { verify: false, ...place }), (e) => e.status === 'FORMAT');
});

test('a signed bundle opens with its key alone', { skip: skip || !existsSync(`${folder}/signed.goss`) }, async () => {
  const bytes = Uint8Array.from(file('signed.goss'));
  const key = Uint8Array.from(file('signed.key'));
  (await Session.open(bytes, { trustedKeys: [new Uint8Array(32).fill(1), key], ...place })).close();
  bytes[200] ^= 1;
  await assert.rejects(Session.open(bytes, { trustedKeys: [key], ...place }), (e) => e.status === 'SIGNATURE');
});

test('many sessions leave no memory behind', { skip }, async () => {
  const bytes = file(description.cases[0].bundle);
  let first = 0;
  for (let i = 0; i < 1000; i++) {
    const session = await Session.open(bytes, { verify: false, ...place });
    if (i === 10) first = session.memoryBytes;
    if (i > 10) assert.equal(session.memoryBytes, first);
    session.close();
    await assert.rejects(Session.open(bytes.subarray(0, bytes.length / 2), { verify: false, ...place }), (e) => e.status === 'FORMAT');
  }
});
