/**
 * Runs Gossamer bundles in a browser or in Node.
 *
 * ```js
 * import { Session } from './gossamer.mjs';
 * const bytes = new Uint8Array(await (await fetch('model.goss')).arrayBuffer());
 * const session = await Session.open(bytes, { trustedKeys: [key] });
 * const { scores } = session.run({ image: new Int8Array(96 * 96 * 3) });
 * session.close();
 * ```
 *
 * int8 results are equal, bit for bit, to those of the native runtimes.
 * @module
 */
import { Core, DTYPES, GossamerError, STATUS, detect } from './core.mjs';
import { statistics } from './profile.mjs';

export { GossamerError, detect };

const ERROR_BYTES = 260;
const IO_BYTES = 48;
const OP_BYTES = 88;
const ISA_BEST = 255;
const ALIGN = 64;

/**
 * One input or output of a model.
 * @typedef {object} Port
 * @property {string} name
 * @property {'float32'|'int8'|'uint8'|'int32'|'int64'|'int16'|'uint32'} dtype
 * @property {number[]} shape
 * @property {number} scale of a quantised tensor (real = (value - zeroPoint) * scale), else 0
 * @property {number} zeroPoint
 * @property {number} bytes
 */

/**
 * One operator with its times (microseconds, over the timed runs) and sizes (bytes).
 * @typedef {import('./profile.mjs').Statistics & {index: number, name: string, source: string, kind: string, pattern: string,
 *   kernel: string, dtype: string, macs: number, macs_executed: number, weight_count: number, weight_nonzero: number,
 *   bytes_in: number, bytes_out: number, bytes_weights: number}} OperatorProfile
 */

/**
 * @typedef {object} Profile
 * @property {string} version
 * @property {string} isa
 * @property {number} threads
 * @property {number} arena_bytes
 * @property {number} session_bytes
 * @property {number} load_us
 * @property {number} runs
 * @property {number} warmup
 * @property {import('./profile.mjs').Statistics} inference
 * @property {OperatorProfile[]} operators
 */

/**
 * @typedef {object} Options
 * @property {Uint8Array[]} [trustedKeys] Ed25519 public keys, 32 bytes each; the bundle must be signed by one of them
 * @property {boolean} [verify] false opens a bundle without looking at its signature (default true)
 * @property {string} [isa] use no kernel above this one: scalar, wasm128, wasmrelaxed, wasmdot (default: the best)
 * @property {boolean} [relaxed] false keeps to the SIMD128 build where relaxed SIMD exists too
 * @property {string | URL} [base] folder of the two .wasm files, with a slash at its end (default: beside this file)
 */

/** @type {Map<string, Promise<Core>>} */
const cores = new Map();

/**
 * @param {Options} options
 * @returns {Promise<Core>}
 */
function core(options) {
  const key = `${options.relaxed !== false} ${options.base ?? ''}`;
  let loading = cores.get(key);
  if (loading === undefined) {
    loading = Core.load(options);
    loading.catch(() => cores.delete(key));
    cores.set(key, loading);
  }
  return loading;
}

/** An opened bundle, ready to run. Not for several workers at once: open one in each. */
export class Session {
  /** @type {Core} */ #core;
  #bundle = 0;
  #model = 0;
  #session = 0;
  #error = 0;
  #pointers = 0;
  /** @type {number[]} */ #buffers = [];
  #loadUs = 0;
  #isa = ISA_BEST;

  /**
   * Inputs in the model's order.
   * @type {readonly Port[]}
   */
  inputs = [];

  /**
   * Outputs in the model's order.
   * @type {readonly Port[]}
   */
  outputs = [];

  /** @param {Core} core not for users: call {@link Session.open} */
  constructor(core) {
    this.#core = core;
  }

  /**
   * Opens a bundle.
   * @param {Uint8Array | ArrayBuffer} bytes copied
   * @param {Options} [options]
   * @returns {Promise<Session>}
   * @throws {GossamerError} SIGNATURE: unsigned, signed by another key, or changed; FORMAT or VERSION: not a bundle, damaged,
   *   or newer than this core; UNSUPPORTED: it has partitions of an external backend; MEMORY; ARGUMENT: wrong options
   */
  static async open(bytes, options = {}) {
    const data = bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes);
    const session = new Session(await core(options));
    try {
      session.#open(data, options);
    } catch (error) {
      session.close();
      throw error;
    }
    return session;
  }

  /**
   * @param {Uint8Array} data
   * @param {Options} options
   */
  #open(data, options) {
    const core = this.#core;
    const api = core.api;
    const keys = options.trustedKeys ?? [];
    if (keys.some((key) => key.length !== 32)) throw new GossamerError('ARGUMENT', 'a trusted key must have 32 bytes');
    if (options.verify !== false && keys.length === 0)
      throw new GossamerError('ARGUMENT', 'give trustedKeys, or verify: false to open the bundle without a check of its signature');
    this.#isa = options.isa === undefined ? ISA_BEST : this.#parseIsa(options.isa);
    const start = performance.now();
    this.#error = core.allocate(ERROR_BYTES);
    this.#bundle = core.allocate(data.length + ALIGN);
    const at = Math.ceil(this.#bundle / ALIGN) * ALIGN;
    core.bytes(at, data.length).set(data);
    if (options.verify !== false) this.#verify(at, data.length, keys);
    this.#pointers = core.allocate(16);
    core.check(api.gs_model_open(at, data.length, this.#pointers, this.#error), this.#error);
    this.#model = core.view.getUint32(this.#pointers, true);
    const externs = api.gs_model_extern_count(this.#model);
    if (externs !== 0)
      throw new GossamerError('UNSUPPORTED', `the bundle has ${externs} partitions for external backends, which do not exist here`);
    const settings = core.allocate(16);
    core.bytes(settings, 16).fill(0);
    core.view.setUint32(settings, 1, true);
    core.view.setInt32(settings + 4, this.#isa, true);
    const status = api.gs_session_open(this.#model, settings, this.#pointers, this.#error);
    core.free(settings);
    core.check(status, this.#error);
    this.#session = core.view.getUint32(this.#pointers, true);
    this.#loadUs = (performance.now() - start) * 1000;
    this.inputs = this.#ports(api.gs_model_input_count(this.#model), api.gs_model_input);
    this.outputs = this.#ports(api.gs_model_output_count(this.#model), api.gs_model_output);
    this.#prepare();
  }

  /**
   * @param {string} name
   * @returns {number}
   */
  #parseIsa(name) {
    const core = this.#core;
    const text = new TextEncoder().encode(`${name}\0`);
    const address = core.allocate(text.length);
    core.bytes(address, text.length).set(text);
    const isa = core.api.gs_isa_parse(address);
    core.free(address);
    if (isa < 0) throw new GossamerError('ARGUMENT', `no instruction set is called '${name}'; use scalar, wasm128, wasmrelaxed or wasmdot`);
    return isa;
  }

  /**
   * @param {number} at
   * @param {number} size
   * @param {Uint8Array[]} keys
   */
  #verify(at, size, keys) {
    const core = this.#core;
    const address = core.allocate(32 * keys.length);
    keys.forEach((key, i) => core.bytes(address + 32 * i, 32).set(key));
    const status = core.api.gs_bundle_verify(at, size, address, keys.length, this.#error);
    core.free(address);
    core.check(status, this.#error);
  }

  /**
   * @param {number} count
   * @param {(model: number, i: number, io: number) => number} get
   * @returns {Port[]}
   */
  #ports(count, get) {
    const core = this.#core;
    const io = core.allocate(IO_BYTES);
    const ports = [];
    for (let i = 0; i < count; i++) {
      core.check(get(this.#model, i, io), this.#error);
      const v = core.view;
      const rank = v.getUint32(io + 8, true);
      ports.push({
        name: core.text(v.getUint32(io, true)),
        dtype: /** @type {Port['dtype']} */ (DTYPES[v.getInt32(io + 4, true)]?.name),
        shape: Array.from({ length: rank }, (_, d) => v.getUint32(io + 12 + 4 * d, true)),
        scale: v.getFloat32(io + 36, true),
        zeroPoint: v.getInt32(io + 40, true),
        bytes: v.getUint32(io + 44, true),
      });
    }
    core.free(io);
    return ports;
  }

  /** Buffers of all inputs and outputs, and the array of their addresses that the core takes. */
  #prepare() {
    const core = this.#core;
    for (const port of [...this.inputs, ...this.outputs]) this.#buffers.push(core.allocate(port.bytes));
    core.free(this.#pointers);
    this.#pointers = core.allocate(4 * this.#buffers.length);
    const view = core.view;
    this.#buffers.forEach((address, i) => view.setUint32(this.#pointers + 4 * i, address, true));
  }

  /**
   * @param {Port} port
   * @returns {{name: string, bytes: number, array: any}}
   */
  static #type(port) {
    return /** @type {any} */ (DTYPES.find((t) => t?.name === port.dtype));
  }

  /** @param {Record<string, ArrayBufferView> | ArrayBufferView[]} values */
  #setInputs(values) {
    if (this.#session === 0) throw new GossamerError('ARGUMENT', 'the session is closed');
    const given = Array.isArray(values) ? values.length : Object.keys(values).length;
    if (given !== this.inputs.length)
      throw new GossamerError('ARGUMENT', `${given} inputs were given; the model has ${this.inputs.length}: ` +
        this.inputs.map((p) => p.name).join(', '));
    this.inputs.forEach((port, i) => {
      const value = Array.isArray(values) ? values[i] : values[port.name];
      const { array, bytes } = Session.#type(port);
      const what = `input '${port.name}' needs ${array.name} of ${port.bytes / bytes} values (shape ${port.shape.join('x')})`;
      if (!(value instanceof array)) throw new GossamerError('ARGUMENT', `${what}, not ${value?.constructor?.name ?? value}`);
      if (value.byteLength !== port.bytes) throw new GossamerError('ARGUMENT', `${what}, not of ${value.byteLength / bytes}`);
      this.#core.bytes(this.#buffers[i], port.bytes).set(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
    });
  }

  /**
   * One inference.
   * @param {Record<string, ArrayBufferView> | ArrayBufferView[]} inputs typed arrays of the ports' types, row-major, by name or in order
   * @returns {Record<string, any>} typed arrays by output name, copied
   * @throws {GossamerError} ARGUMENT: a missing input, a wrong type or length
   */
  run(inputs) {
    this.#setInputs(inputs);
    const core = this.#core;
    const outputs = this.#pointers + 4 * this.inputs.length;
    core.check(core.api.gs_session_run(this.#session, this.#pointers, outputs, this.#error), this.#error);
    return Object.fromEntries(this.outputs.map((port, i) => {
      const { array } = Session.#type(port);
      const bytes = core.bytes(this.#buffers[this.inputs.length + i], port.bytes).slice();
      return [port.name, new array(bytes.buffer)];
    }));
  }

  /**
   * Times every operator.
   * @param {Record<string, ArrayBufferView> | ArrayBufferView[]} inputs as for {@link Session#run}
   * @param {{runs?: number, warmup?: number}} [options] runs: timed runs (default 50); warmup: runs before them (default 5)
   * @returns {Profile}
   */
  profile(inputs, { runs = 50, warmup = 5 } = {}) {
    if (!Number.isInteger(runs) || runs < 1 || !Number.isInteger(warmup) || warmup < 0)
      throw new GossamerError('ARGUMENT', `runs must be 1 or more and warmup 0 or more, not ${runs} and ${warmup}`);
    this.#setInputs(inputs);
    const core = this.#core;
    const { api } = core;
    const outputs = this.#pointers + 4 * this.inputs.length;
    const count = api.gs_model_op_count(this.#model);
    const times = core.allocate(8 * count);
    const perOp = Array.from({ length: count }, () => new Float64Array(runs));
    const total = new Float64Array(runs);
    try {
      for (let r = -warmup; r < runs; r++) {
        const start = performance.now();
        core.check(api.gs_session_run_timed(this.#session, this.#pointers, outputs, times, this.#error), this.#error);
        if (r < 0) continue;
        total[r] = (performance.now() - start) * 1e6;
        const view = core.view;
        for (let i = 0; i < count; i++) perOp[i][r] = Number(view.getBigUint64(times + 8 * i, true));
      }
    } finally {
      core.free(times);
    }
    const best = api.gs_detect_isa();
    return {
      version: core.text(api.gs_version()),
      isa: core.text(api.gs_isa_name(Math.min(this.#isa, best))),
      threads: 1,
      arena_bytes: api.gs_model_arena_bytes(this.#model),
      session_bytes: api.gs_session_bytes(this.#session),
      load_us: this.#loadUs,
      runs,
      warmup,
      inference: statistics(total),
      operators: this.#operators(perOp),
    };
  }

  /**
   * @param {Float64Array[]} times nanoseconds by operator and run
   * @returns {OperatorProfile[]}
   */
  #operators(times) {
    const core = this.#core;
    const info = core.allocate(OP_BYTES);
    const found = times.map((ns, index) => {
      core.check(core.api.gs_session_op_info(this.#session, index, info), this.#error);
      const v = core.view;
      const text = (/** @type {number} */ i) => core.text(v.getUint32(info + 4 * i, true));
      const number = (/** @type {number} */ i) => Number(v.getBigUint64(info + 24 + 8 * i, true));
      return {
        index,
        name: text(0),
        source: text(1),
        kind: text(2),
        pattern: text(3),
        kernel: text(4),
        dtype: DTYPES[v.getInt32(info + 20, true)]?.name ?? '?',
        ...statistics(ns),
        macs: number(0),
        macs_executed: number(1),
        weight_count: number(2),
        weight_nonzero: number(3),
        bytes_in: number(4),
        bytes_out: number(5),
        bytes_weights: number(6),
        fused: v.getUint32(info + 80, true) !== 0,
      };
    });
    core.free(info);
    return found;
  }

  /**
   * The manifest that the compiler wrote into the bundle.
   * @returns {any}
   */
  get manifest() {
    const core = this.#core;
    const size = core.allocate(4);
    const at = core.api.gs_model_manifest(this.#model, size);
    const bytes = core.bytes(at, core.view.getUint32(size, true)).slice();
    core.free(size);
    return JSON.parse(new TextDecoder().decode(bytes));
  }

  /**
   * Bytes of the module's memory, which all sessions share and which never shrinks.
   * @returns {number}
   */
  get memoryBytes() {
    return this.#core.api.memory.buffer.byteLength;
  }

  /** Frees everything; the session cannot run again. */
  close() {
    const { api } = this.#core;
    if (this.#session !== 0) api.gs_session_close(this.#session);
    if (this.#model !== 0) api.gs_model_close(this.#model);
    for (const address of [this.#bundle, this.#error, this.#pointers, ...this.#buffers]) if (address !== 0) api.free(address);
    this.#session = this.#model = this.#bundle = this.#error = this.#pointers = 0;
    this.#buffers = [];
  }
}

/** Names of the core's refusals, as in {@link GossamerError}. */
export const statuses = Object.freeze([...STATUS]);
