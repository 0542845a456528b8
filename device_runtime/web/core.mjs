/**
 * The WASM module of the Gossamer core: which of the two builds this engine can run, how it is loaded, and reading and
 * writing its memory. Used by gossamer.mjs; not a public interface.
 * @module
 */

/** Names of `gs_status`, by number. */
export const STATUS = [
  'OK', 'ARGUMENT', 'FORMAT', 'VERSION', 'UNSUPPORTED', 'MEMORY', 'SIGNATURE', 'BACKEND',
];

/** Element types by `gs_dtype`: name, bytes of one element, typed array. */
export const DTYPES = [
  undefined,
  { name: 'float32', bytes: 4, array: Float32Array },
  { name: 'int8', bytes: 1, array: Int8Array },
  { name: 'uint8', bytes: 1, array: Uint8Array },
  { name: 'int32', bytes: 4, array: Int32Array },
  { name: 'int64', bytes: 8, array: BigInt64Array },
  { name: 'int16', bytes: 2, array: Int16Array },
  { name: 'uint32', bytes: 4, array: Uint32Array },
];

/** A refusal of the core: `status` is one of {@link STATUS}. */
export class GossamerError extends Error {
  /**
   * @param {string} status
   * @param {string} message what is wrong, where, and what to do
   */
  constructor(status, message) {
    super(message);
    this.name = 'GossamerError';
    this.status = status;
  }
}

// (module (func i32.const 0 i8x16.splat drop)) and the same with f32x4.relaxed_madd of three of them.
const HEAD = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0];
const VECTOR = [0x41, 0, 0xfd, 0x0f];
const SIMD = [...HEAD, 0x0a, 9, 1, 7, 0, ...VECTOR, 0x1a, 0x0b];
const RELAXED = [...HEAD, 0x0a, 20, 1, 18, 0, ...VECTOR, ...VECTOR, ...VECTOR, 0xfd, 0x85, 2, 0x1a, 0x0b];

/**
 * What this engine can run.
 * @returns {{simd: boolean, relaxed: boolean}}
 */
export function detect() {
  return { simd: WebAssembly.validate(new Uint8Array(SIMD)), relaxed: WebAssembly.validate(new Uint8Array(RELAXED)) };
}

/**
 * Bytes of a URL, in a browser or in Node.
 * @param {URL} url
 * @returns {Promise<BufferSource>}
 */
async function read(url) {
  if (url.protocol === 'file:') {
    const { readFile } = await import('node:fs/promises');
    return readFile(url);
  }
  const response = await fetch(url);
  if (!response.ok) throw new GossamerError('ARGUMENT', `${url}: HTTP status ${response.status} instead of the WASM module`);
  return response.arrayBuffer();
}

/** One instance of the module. Its memory grows, so views are made anew for every access. */
export class Core {
  /** @param {WebAssembly.Exports} api */
  constructor(api) {
    /** @type {any} */
    this.api = api;
    api._initialize?.();
  }

  /**
   * Loads the build for this engine.
   * @param {{base?: string | URL, relaxed?: boolean}} [options] base: the folder (ending in a slash) that holds
   *   gossamer.wasm and gossamer-relaxed.wasm, by default the one of this file. relaxed: false keeps to SIMD128.
   * @returns {Promise<Core>}
   */
  static async load(options = {}) {
    const can = detect();
    if (!can.simd) throw new GossamerError('UNSUPPORTED', 'this engine has no WASM SIMD; use one of 2021 or later');
    const relaxed = can.relaxed && options.relaxed !== false;
    const base = options.base ?? new URL('./', import.meta.url);
    const bytes = await read(new URL(relaxed ? 'gossamer-relaxed.wasm' : 'gossamer.wasm', base));
    const imports = { gossamer: { now_ns: () => performance.now() * 1e6 } };
    const { instance } = await WebAssembly.instantiate(bytes, imports);
    return new Core(instance.exports);
  }

  /** @returns {DataView} */
  get view() {
    return new DataView(this.api.memory.buffer);
  }

  /**
   * @param {number} address
   * @param {number} size
   * @returns {Uint8Array} valid until the next allocation
   */
  bytes(address, size) {
    return new Uint8Array(this.api.memory.buffer, address, size);
  }

  /**
   * @param {number} size
   * @returns {number} address, never 0
   */
  allocate(size) {
    const address = this.api.malloc(Math.max(size, 1)) >>> 0;
    if (address === 0) throw new GossamerError('MEMORY', `no ${size} bytes left in WASM memory`);
    return address;
  }

  /** @param {number} address */
  free(address) {
    this.api.free(address);
  }

  /**
   * @param {number} address of a NUL-terminated string, or 0
   * @returns {string}
   */
  text(address) {
    if (address === 0) return '';
    const all = new Uint8Array(this.api.memory.buffer, address);
    return new TextDecoder().decode(all.slice(0, all.indexOf(0)));
  }

  /**
   * Throws unless the status is GS_OK.
   * @param {number} status
   * @param {number} error address of the gs_error
   */
  check(status, error) {
    if (status === 0) return;
    throw new GossamerError(STATUS[status] ?? `status ${status}`, this.text(error + 4) || `the core answered ${STATUS[status]}`);
  }
}
