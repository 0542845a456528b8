/** Runs a WASI program in Node: node wasi.mjs PROGRAM.wasm [arguments]. */
import { readFileSync } from 'node:fs';
import { WASI } from 'node:wasi';

const [file, ...args] = process.argv.slice(2);
const wasi = new WASI({ version: 'preview1', args: [file, ...args], returnOnExit: true });
const imports = { ...wasi.getImportObject(), gossamer: { now_ns: () => performance.now() * 1e6 } };
const { instance } = await WebAssembly.instantiate(readFileSync(file), imports);
process.exitCode = wasi.start(instance);
