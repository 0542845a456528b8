#!/usr/bin/env node
/**
 * gossamer-profile for Node: the same arguments and output as the native program (but --each), run by the WASM core.
 * @module
 */
import { existsSync } from 'node:fs';
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

import { detect } from './core.mjs';
import { GossamerError, Session } from './gossamer.mjs';
import { table } from './profile.mjs';

const USAGE = `usage: node node-cli.mjs MODEL.goss [options]

Loads a bundle, runs it in WASM and prints the time of every operator.

  --input FILE     raw values of the next graph input, in the model's order (repeat for several). Without any,
                   inputs hold a seeded pattern: xorshift32 from --seed; floats in [-1, 1), 8- and 16-bit
                   integers over their whole range, wider integers 0..15
  --output FILE    where to write the next graph output after the last run (repeat for several)
  --runs N         timed runs, 1..1000000 (default 50)
  --warmup N       runs before them, 0..1000000 (default 5)
  --threads N      1: this build has no threads
  --isa NAME       use no kernel above this instruction set: scalar, wasm128, wasmrelaxed, wasmdot (default best)
  --seed N         seed of the pattern, 1..4294967295 (default 1)
  --verify KEY     refuse the bundle unless this Ed25519 public key (64 hexadecimal digits) signed it
  --wasm FOLDER    folder of gossamer.wasm and gossamer-relaxed.wasm (default: beside this file, else the build folder)
  --json           print JSON instead of a table
  --help           this text

Raw files hold a tensor's values alone: row-major, no header, no padding, little-endian. A file's length must be exact.
Relaxed SIMD needs 'node --experimental-wasm-relaxed-simd' in Node 20; without it the SIMD128 module runs.
Exit codes: 0 done, 1 the model or a file cannot be used, 2 wrong command line.

example: node node-cli.mjs model.goss --input cat.raw --output scores.raw --runs 100
`;

class UsageError extends Error {}

/**
 * @param {string | undefined} text
 * @param {string} name
 * @param {number} low
 * @param {number} high
 * @param {number} otherwise
 * @returns {number}
 */
function number(text, name, low, high, otherwise) {
  if (text === undefined) return otherwise;
  const value = /^\d+$/.test(text) ? Number(text) : NaN;
  if (!(value >= low && value <= high)) throw new UsageError(`--${name} takes ${low}..${high}, not '${text}'`);
  return value;
}

const NAMES = /** @type {const} */ (['runs', 'warmup', 'threads', 'isa', 'seed', 'verify', 'wasm']);

/** @param {string[]} argv */
function parse(argv) {
  /** @type {any} */
  const options = { json: { type: 'boolean' }, help: { type: 'boolean' } };
  for (const name of NAMES) options[name] = { type: 'string' };
  for (const name of ['input', 'output']) options[name] = { type: 'string', multiple: true };
  let parsed;
  try {
    parsed = parseArgs({ args: argv, options, allowPositionals: true });
  } catch (error) {
    throw new UsageError(/** @type {Error} */ (error).message);
  }
  /** @type {any} */
  const v = parsed.values;
  if (v.help) return { help: true };
  if (parsed.positionals.length !== 1) throw new UsageError(`one model is needed, not ${parsed.positionals.length}`);
  number(v.threads, 'threads', 1, 1, 1);
  if (v.verify !== undefined && !/^[0-9a-fA-F]{64}$/.test(v.verify)) throw new UsageError('--verify takes 64 hexadecimal digits');
  return {
    help: false,
    model: parsed.positionals[0],
    inputs: v.input ?? [],
    outputs: v.output ?? [],
    runs: number(v.runs, 'runs', 1, 1000000, 50),
    warmup: number(v.warmup, 'warmup', 0, 1000000, 5),
    seed: number(v.seed, 'seed', 1, 4294967295, 1),
    isa: v.isa === 'best' ? undefined : v.isa,
    key: v.verify === undefined ? undefined : Uint8Array.from(Buffer.from(v.verify, 'hex')),
    wasm: v.wasm,
    json: v.json === true,
  };
}

/**
 * Where the module is: --wasm, else beside this file, else the build folder of the source tree; and which of the two it
 * holds. The relaxed one runs where both can.
 * @param {string | undefined} given
 * @returns {{base: URL, relaxed: boolean}}
 */
function findModule(given) {
  const places = given === undefined
    ? [new URL('./', import.meta.url), ...['wasm-relaxed', 'wasm'].map((f) => new URL(`../../build/native/${f}/`, import.meta.url))]
    : [pathToFileURL(`${resolve(given)}/`)];
  for (const base of places)
    for (const relaxed of detect().relaxed ? [true, false] : [false])
      if (existsSync(new URL(relaxed ? 'gossamer-relaxed.wasm' : 'gossamer.wasm', base))) return { base, relaxed };
  throw new GossamerError('ARGUMENT', `no WASM module in ${places.map((p) => p.pathname).join(', ')}: ` +
    "build one with 'python -m tools.build_native --target wasm --target wasm-relaxed' or give --wasm");
}

/**
 * The seeded pattern of the native program.
 * @param {import('./gossamer.mjs').Port} port
 * @param {{state: number}} random
 * @returns {Uint8Array}
 */
function pattern(port, random) {
  const item = { float32: 4, int8: 1, uint8: 1, int16: 2, int32: 4, uint32: 4, int64: 8 }[port.dtype];
  const view = new DataView(new ArrayBuffer(port.bytes));
  for (let at = 0; at < port.bytes; at += item) {
    random.state ^= random.state << 13;
    random.state ^= random.state >>> 17;
    random.state ^= random.state << 5;
    const s = random.state >>> 0;
    if (port.dtype === 'float32') view.setFloat32(at, (s >>> 8) / 8388608 - 1, true);
    else if (item === 1) view.setUint8(at, (s >>> 16) & 0xff);
    else if (item === 2) view.setUint16(at, s >>> 16, true);
    else view.setUint32(at, s >>> 28, true);
  }
  return new Uint8Array(view.buffer);
}

const ARRAYS = { float32: Float32Array, int8: Int8Array, uint8: Uint8Array, int16: Int16Array, int32: Int32Array,
  uint32: Uint32Array, int64: BigInt64Array };

/**
 * @param {any} a arguments
 * @param {Session} session
 * @returns {Promise<ArrayBufferView[]>}
 */
async function takeInputs(a, session) {
  if ((a.inputs.length !== 0 && a.inputs.length !== session.inputs.length) || a.outputs.length > session.outputs.length)
    throw new UsageError(`the model has ${session.inputs.length} inputs and ${session.outputs.length} outputs; ` +
      `${a.inputs.length} --input and ${a.outputs.length} --output files were given`);
  const random = { state: a.seed | 0 };
  const values = [];
  for (const [i, port] of session.inputs.entries()) {
    const bytes = a.inputs.length === 0 ? pattern(port, random) : new Uint8Array(await readFile(a.inputs[i]));
    if (bytes.length !== port.bytes)
      throw new GossamerError('ARGUMENT', `${a.inputs[i]} has ${bytes.length} bytes; input '${port.name}' needs ${port.bytes}`);
    values.push(new ARRAYS[port.dtype](bytes.slice().buffer));
  }
  return values;
}

/**
 * Written beside its place and moved there, so that a full disk leaves no half output.
 * @param {string} path
 * @param {ArrayBufferView} value
 */
async function put(path, value) {
  const temporary = `${path}.part`;
  try {
    await writeFile(temporary, new Uint8Array(value.buffer));
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** @param {string[]} argv */
async function main(argv) {
  const a = /** @type {any} */ (parse(argv));
  if (a.help) {
    process.stdout.write(USAGE);
    return;
  }
  const bytes = await readFile(a.model);
  const trust = a.key === undefined ? { verify: false } : { trustedKeys: [a.key] };
  const session = await Session.open(bytes, { ...trust, isa: a.isa, ...findModule(a.wasm) });
  const inputs = await takeInputs(a, session);
  const profile = session.profile(inputs, { runs: a.runs, warmup: a.warmup });
  if (a.outputs.length !== 0) {
    const results = session.run(inputs);
    for (const [i, path] of a.outputs.entries()) await put(path, results[session.outputs[i].name]);
  }
  session.close();
  const head = { model: a.model, model_bytes: bytes.length };
  if (a.json) process.stdout.write(`${JSON.stringify({ ...head, ...profile })}\n`);
  else process.stdout.write(`model      ${head.model} (${head.model_bytes} bytes)\n${table(profile)}\n`);
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  const e = /** @type {any} */ (error);
  const known = e instanceof UsageError || e instanceof GossamerError || e.code !== undefined;
  process.stderr.write(`error: ${known ? e.message : e.stack}${e instanceof UsageError ? ' (see --help)' : ''}\n`);
  process.exitCode = e instanceof UsageError ? 2 : 1;
}
