/**
 * The engines of the benchmark behind one interface, in browsers and in Node. Every model takes the same float32 values and
 * gives float32 scores; what an engine needs to turn them into its own tensors is part of a run, as it is for its users.
 * @module
 */
import { open as openGraph } from './tfjs_graph.mjs';

/**
 * @typedef {object} Subject one engine with one model
 * @property {string} engine gossamer, litert.js, onnxruntime-web or tfjs-wasm
 * @property {string} model address of its file
 * @property {boolean} [relaxed] gossamer: false keeps to SIMD128
 * @property {number[]} shape of the input, NCHW
 *
 * @typedef {object} Opened
 * @property {() => Promise<Float32Array> | Float32Array} run
 * @property {string} [detail] what the engine says it runs
 */

/** @param {string} address */
async function bytes(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address}: HTTP status ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

/**
 * NCHW to NHWC.
 * @param {Float32Array} x
 * @param {number[]} shape
 */
function channelsLast(x, [, c, h, w]) {
  const out = new Float32Array(x.length);
  for (let k = 0; k < c; k++) for (let p = 0; p < h * w; p++) out[p * c + k] = x[k * h * w + p];
  return out;
}

/** @type {Record<string, (subject: Subject, input: Float32Array, place: Place) => Promise<Opened>>} */
const OPEN = {
  async gossamer(subject, input, place) {
    const { Session } = await place.gossamer();
    const base = new URL('/wasm/', place.origin);
    const session = await Session.open(await bytes(subject.model), { verify: false, relaxed: subject.relaxed, base });
    const name = session.outputs[0].name;
    const { isa } = session.profile([input], { runs: 1, warmup: 0 });
    return { run: () => session.run([input])[name], detail: isa };
  },

  async 'litert.js'(subject, input, place) {
    const core = await place.litert();
    const model = await core.loadAndCompile(await bytes(subject.model), { accelerator: 'wasm' });
    const [n, c, h, w] = subject.shape;
    const last = channelsLast(input, subject.shape);
    return {
      async run() {
        const x = new core.Tensor(last, [n, h, w, c]);
        const [y] = await model.run([x]);
        const scores = Float32Array.from(y.toTypedArray());
        y.delete();
        x.delete();
        return scores;
      },
    };
  },

  async 'onnxruntime-web'(subject, input, place) {
    const ort = await place.onnxruntime();
    ort.env.wasm.numThreads = 1;
    const session = await ort.InferenceSession.create(await bytes(subject.model), { executionProviders: ['wasm'] });
    const x = new ort.Tensor('float32', input, subject.shape);
    return { run: async () => (await session.run({ [session.inputNames[0]]: x }))[session.outputNames[0]].data };
  },

  async 'tfjs-wasm'(subject, input, place) {
    const { tf, backend } = await place.tensorflow();
    if (!loaded.has('tfjs-wasm')) backend.setThreadsCount(1);
    loaded.add('tfjs-wasm');
    if (!(await tf.setBackend('wasm'))) throw new Error('the wasm backend of TensorFlow.js does not start');
    const graph = await openGraph(tf, subject.model);
    const [n, c, h, w] = subject.shape;
    const last = channelsLast(input, subject.shape);
    return { run: () => graph(tf.tensor4d(last, [n, h, w, c])) };
  },
};

/** @type {Set<string>} */
const loaded = new Set();

/**
 * How a host finds the engines.
 * @typedef {object} Place
 * @property {string} origin of the server
 * @property {() => Promise<any>} gossamer
 * @property {() => Promise<any>} litert the module, its WASM loaded
 * @property {() => Promise<any>} onnxruntime
 * @property {() => Promise<{tf: any, backend: any}>} tensorflow with the paths of its WASM set
 */

/**
 * @param {Subject} subject
 * @param {Float32Array} input
 * @param {Place} place
 * @returns {Promise<Opened>}
 */
export function open(subject, input, place) {
  return OPEN[subject.engine](subject, input, place);
}
