/**
 * One bundle in a page: its outputs for given inputs, and the time of every operator. For chromium_host.mjs.
 * @module
 */

/**
 * @param {{model: string, inputs: string[], wasm: string, warmup: number, runs: number, options?: object}} argument addresses of the bundle,
 *   of the raw inputs in the model's order and of the folder of the .wasm files; runs: 0 leaves out the profile
 * @returns {Promise<{isa: string, outputs: number[][], table: string}>} outputs as bytes
 */
export async function main({ model, inputs, wasm, warmup, runs, options }) {
  const { Session } = await import('/gossamer/gossamer.mjs');
  const { table } = await import('/gossamer/profile.mjs');
  const raw = async (/** @type {string} */ address) => (await fetch(address)).arrayBuffer();
  const session = await Session.open(new Uint8Array(await raw(model)), { verify: false, base: new URL(wasm, location.href), ...options });
  const arrays = { float32: Float32Array, int8: Int8Array, uint8: Uint8Array, int32: Int32Array, int64: BigInt64Array,
    int16: Int16Array, uint32: Uint32Array };
  /** @type {ArrayBufferView[]} */
  const values = [];
  for (const [i, address] of inputs.entries())
    values.push(new arrays[/** @type {keyof typeof arrays} */ (session.inputs[i].dtype)](await raw(address)));
  const results = session.run(values);
  const outputs = session.outputs.map((/** @type {{name: string}} */ p) => [...new Uint8Array(results[p.name].buffer)]);
  for (let i = 0; i < (runs ? 10 : 0); i++) {
    session.profile(values, { runs: warmup, warmup: 0 });
    await new Promise((resolve) => setTimeout(resolve, 150)); // engines compile for speed in the background
  }
  const profile = session.profile(values, { runs: Math.max(runs, 1), warmup: runs ? warmup : 0 });
  session.close();
  return { isa: profile.isa, outputs, table: runs ? table(profile) : '' };
}
