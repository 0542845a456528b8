/**
 * Statistics of timed runs and the table of the profiler.
 * @module
 */

/**
 * Quantile of sorted values, interpolated between neighbours as numpy does.
 * @param {Float64Array} sorted
 * @param {number} q 0 to 1
 * @returns {number}
 */
function quantile(sorted, q) {
  const at = q * (sorted.length - 1);
  const i = Math.floor(at);
  const high = sorted[Math.min(i + 1, sorted.length - 1)];
  return sorted[i] + (high - sorted[i]) * (at - i);
}

/**
 * @typedef {object} Statistics
 * @property {number} median_us
 * @property {number} min_us
 * @property {number} p90_us
 * @property {number} mean_us
 */

/**
 * @param {ArrayLike<number>} ns nanoseconds of each run
 * @returns {Statistics} in microseconds
 */
export function statistics(ns) {
  const us = Float64Array.from(ns, (v) => v / 1000).sort();
  return {
    median_us: quantile(us, 0.5),
    min_us: us[0],
    p90_us: quantile(us, 0.9),
    mean_us: us.reduce((a, b) => a + b, 0) / us.length,
  };
}

/**
 * The per-operator table of a profile.
 * @param {import('./gossamer.mjs').Profile} profile
 * @returns {string}
 */
export function table(profile) {
  const t = profile.inference;
  const us = (/** @type {number} */ v) => v.toFixed(1);
  const lines = [
    `core       ${profile.version}, ${profile.isa}, 1 thread`,
    `memory     arena ${profile.arena_bytes} bytes, session ${profile.session_bytes} bytes`,
    `load       ${us(profile.load_us)} us`,
    `inference  median ${us(t.median_us)} us, min ${us(t.min_us)} us, p90 ${us(t.p90_us)} us, mean ${us(t.mean_us)} us ` +
      `over ${profile.runs} runs after ${profile.warmup} warm-up`,
    '',
  ];
  const row = (/** @type {(string | number)[]} */ c) =>
    [`${c[0]}`.padStart(4), `${c[1]}`.padEnd(10), `${c[2]}`.padEnd(12), `${c[3]}`.padEnd(40), `${c[4]}`.padEnd(7),
      ...c.slice(5, 11).map((v) => `${v}`.padStart(11)), ` ${c[11]}`].join(' ');
  lines.push(row(['op', 'kind', 'pattern', 'kernel', 'dtype', 'median [us]', 'min [us]', 'p90 [us]', 'share[%]', 'sparsity[%]',
    'MMAC', 'node']));
  for (const o of profile.operators) {
    const sparsity = o.weight_count ? 100 * (1 - o.weight_nonzero / o.weight_count) : 0;
    lines.push(row([o.index, o.kind, o.pattern, o.kernel, o.dtype, o.median_us.toFixed(2), o.min_us.toFixed(2),
      o.p90_us.toFixed(2), (t.median_us ? (100 * o.median_us) / t.median_us : 0).toFixed(1), sparsity.toFixed(1),
      (o.macs / 1e6).toFixed(3), o.source ? `${o.name} <- ${o.source}` : o.name]));
  }
  return lines.join('\n');
}
