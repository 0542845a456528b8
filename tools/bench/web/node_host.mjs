/**
 * Runs a plan in this Node process: `node node_host.mjs PLAN.json RESULT.json`.
 * @module
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import vm from 'node:vm';

import { cold, interleave } from './rounds.mjs';
import { serve } from './server.mjs';

const plan = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const { origin, close } = await serve(plan.folders);
/** @type {any} */
const scope = globalThis;
const packages = plan.folders['/packages/'];
const file = (/** @type {string} */ path) => pathToFileURL(join(packages, path)).href;

/** @type {Promise<any> | undefined} */
let litert;

/** LiteRT.js is made for browsers: it loads its glue code as in one of their workers, and that code then requires as in Node. */
async function loadLiteRt() {
  const folder = join(packages, '@litertjs/core/wasm');
  const load = { self: scope, require: createRequire(join(folder, 'x')), __filename: join(folder, 'x'), __dirname: folder,
    importScripts: (/** @type {string} */ path) => vm.runInThisContext(readFileSync(path, 'utf8')) };
  Object.assign(scope, load);
  try {
    const core = await import(file('@litertjs/core/dist/index.js'));
    await core.loadLiteRt(`${folder}/`);
    return core;
  } finally {
    for (const name of Object.keys(load)) delete scope[name]; // others would take this for a browser
  }
}

/** Highest resident memory of this process, MB (10^6 bytes); resourceUsage() counts what started it too. */
const peakRss = () => (Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) * 1024) / 1e6;

/** @type {import('./engines.mjs').Place} */
const place = {
  origin,
  gossamer: () => import(pathToFileURL(join(plan.folders['/gossamer/'], 'gossamer.mjs')).href),
  litert: () => (litert ??= loadLiteRt()),
  onnxruntime: () => import(file('onnxruntime-web/dist/ort.node.min.mjs')),
  async tensorflow() {
    const tf = (await import(file('@tensorflow/tfjs-core/dist/tf-core.node.js'))).default;
    return { tf, backend: (await import(file('@tensorflow/tfjs-backend-wasm/dist/tf-backend-wasm.node.js'))).default };
  },
};
for (const s of plan.subjects) s.model = `${origin}${s.model}`;
plan.input = `${origin}${plan.input}`;
const result = plan.cold
  ? { cold_ms: await cold(plan, place), rss_mb: peakRss() }
  : { subjects: await interleave(plan, place), version: process.version };
writeFileSync(process.argv[3], JSON.stringify(result));
close();
process.exit(0);
