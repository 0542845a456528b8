/**
 * Interleaved rounds over all subjects of a run, and the cold start of one.
 * @module
 */
import { open } from './engines.mjs';

const sleep = (/** @type {number} */ ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * @typedef {object} Plan
 * @property {import('./engines.mjs').Subject[]} subjects
 * @property {string} input address of the input's float32 values
 * @property {number} rounds timed rounds; every subject runs once or more in each
 * @property {number} pause milliseconds of rest in the warm-up, in which the engine compiles for speed in the background
 */

/**
 * @param {Plan} plan
 * @returns {Promise<Float32Array>}
 */
async function inputOf(plan) {
  return new Float32Array(await (await fetch(plan.input)).arrayBuffer());
}

/**
 * Times every subject.
 * @param {Plan} plan
 * @param {import('./engines.mjs').Place} place
 */
export async function interleave(plan, place) {
  const input = await inputOf(plan);
  const subjects = [];
  for (const subject of plan.subjects) {
    try {
      subjects.push({ ...(await open(subject, input, place)), output: new Float32Array(0), error: '', ms: /** @type {number[]} */ ([]) });
    } catch (error) {
      subjects.push({ run: () => new Float32Array(0), output: new Float32Array(0), detail: '', ms: [],
        error: `${/** @type {any} */ (error)?.message ?? error}` });
    }
  }
  const alive = subjects.filter((s) => s.error === '');
  // Code starts in a baseline tier. On one busy core its recompilation is starved, so the warm-up rests between runs.
  for (let i = 0; i < 12; i++) {
    for (const s of alive) for (let k = 0; k < 5; k++) s.output = await s.run();
    await sleep(plan.pause);
  }
  for (let round = 0; round < plan.rounds; round++) {
    for (const s of alive) {
      await s.run(); // brings its own data back into the caches
      const start = performance.now();
      await s.run();
      s.ms.push(performance.now() - start);
    }
    if (round % 10 === 9) await sleep(5);
  }
  for (const s of alive) s.output = Float32Array.from(await s.run());
  return subjects.map(({ ms, output, detail, error }) => ({ ms, output: [...output], detail: detail ?? '', error }));
}

/**
 * Milliseconds from nothing (code of the engine not yet loaded) to the first scores of the first subject.
 * @param {Plan} plan
 * @param {import('./engines.mjs').Place} place
 */
export async function cold(plan, place) {
  const input = await inputOf(plan);
  const start = performance.now();
  const { run } = await open(plan.subjects[0], input, place);
  await run();
  return performance.now() - start;
}
