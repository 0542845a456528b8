/**
 * Runs a plan in headless Chromium: `node chromium_host.mjs PLAN.json RESULT.json`. A plan with `script` (the
 * address of a module with a function `main(argument)`) runs that instead of the benchmark.
 * @module
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

import { serve } from './server.mjs';

const plan = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const { chromium } = createRequire(join(plan.packages, 'package.json'))('playwright-core');
const { origin, close } = await serve(plan.folders);
const browser = await chromium.launch({ // with a profile of its own, removed when it closes
  executablePath: plan.chromium,
  args: ['--no-sandbox', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});

/** Highest resident memory of the page's process, MB (10^6 bytes). */
async function peakRss() {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send('SystemInfo.getProcessInfo');
  const peaks = processInfo
    .filter((/** @type {{type: string}} */ p) => p.type === 'renderer')
    .map((/** @type {{id: number}} */ p) => Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${p.id}/status`, 'utf8'))?.[1] ?? 0));
  return (Math.max(...peaks) * 1024) / 1e6;
}

try {
  const page = await browser.newPage();
  page.on('console', (message) => process.stderr.write(`${message.text()}\n`));
  await page.goto(`${origin}/`);
  const result = await page.evaluate(
    async ({ plan, origin }) => {
      if (plan.script) return (await import(`${origin}${plan.script}`)).main(plan.argument);
      const { cold, interleave } = await import(`${origin}/bench/rounds.mjs`);
      const script = (/** @type {string} */ path) =>
        new Promise((resolve, reject) => {
          const element = Object.assign(document.createElement('script'), { src: `${origin}/packages/${path}`, onload: resolve, onerror: reject });
          document.body.appendChild(element);
        });
      /** @type {any} */
      const scope = globalThis;
      /** @type {Promise<any> | undefined} */
      let litert;
      const place = {
        origin,
        gossamer: () => import(`${origin}/gossamer/gossamer.mjs`),
        litert: () => (litert ??= import(`${origin}/packages/@litertjs/core/dist/index.js`).then(async (core) => {
          await core.loadLiteRt(`${origin}/packages/@litertjs/core/wasm/`);
          return core;
        })),
        async onnxruntime() {
          const ort = await import(`${origin}/packages/onnxruntime-web/dist/ort.wasm.min.mjs`);
          ort.env.wasm.wasmPaths = `${origin}/packages/onnxruntime-web/dist/`;
          return ort;
        },
        async tensorflow() {
          if (!scope.tf?.wasm) {
            await script('@tensorflow/tfjs-core/dist/tf-core.min.js');
            await script('@tensorflow/tfjs-backend-wasm/dist/tf-backend-wasm.min.js');
            scope.tf.wasm.setWasmPaths(`${origin}/packages/@tensorflow/tfjs-backend-wasm/dist/`);
          }
          return { tf: scope.tf, backend: scope.tf.wasm };
        },
      };
      for (const s of plan.subjects) s.model = `${origin}${s.model}`;
      plan.input = `${origin}${plan.input}`;
      return plan.cold ? { cold_ms: await cold(plan, place) } : { subjects: await interleave(plan, place) };
    },
    { plan, origin },
  );
  writeFileSync(process.argv[3], JSON.stringify({ ...result, version: browser.version(), rss_mb: await peakRss() }));
} finally {
  await browser.close();
  close();
}
process.exit(0);
