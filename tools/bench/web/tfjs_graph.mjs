/**
 * Runs a small convolutional graph with the operators of TensorFlow.js. The graph comes as JSON and one file of float32
 * weights, written by tools/bench/tfjs_model.py from the ONNX graph of the other engines.
 * @module
 */

/**
 * @param {any} tf
 * @param {string} address of the JSON; its weights lie beside it
 * @returns {Promise<(x: any) => Float32Array>}
 */
export async function open(tf, address) {
  const graph = await (await fetch(address)).json();
  const data = new Float32Array(await (await fetch(new URL(graph.weights, address))).arrayBuffer());
  const weight = (/** @type {{at: number, shape: number[]}} */ w) =>
    tf.tensor(data.subarray(w.at, w.at + w.shape.reduce((a, b) => a * b, 1)), w.shape);
  for (const node of graph.nodes)
    for (const key of ['filter', 'bias']) if (node[key]) node[key] = weight(node[key]);
  const window = (/** @type {any} */ n, /** @type {any} */ x) => ({ x, filter: n.filter, strides: n.strides, pad: n.pad,
    bias: n.bias, activation: n.activation });
  /** @type {Record<string, (n: any, v: Map<string, any>) => any>} */
  const run = {
    conv: (n, v) => tf.fused.conv2d(window(n, v.get(n.inputs[0]))),
    depthwise: (n, v) => tf.fused.depthwiseConv2d(window(n, v.get(n.inputs[0]))),
    add: (n, v) => (n.activation === 'relu' ? tf.relu(tf.add(v.get(n.inputs[0]), v.get(n.inputs[1]))) : tf.add(v.get(n.inputs[0]), v.get(n.inputs[1]))),
    maxpool: (n, v) => tf.maxPool(v.get(n.inputs[0]), n.size, n.strides, n.pad[1][0]),
    mean: (n, v) => tf.mean(v.get(n.inputs[0]), [1, 2]),
    gemm: (n, v) => tf.fused.matMul({ a: v.get(n.inputs[0]), b: n.filter, bias: n.bias }),
  };
  return (x) => {
    const y = tf.tidy(() => {
      const values = new Map([[graph.input, x]]);
      for (const n of graph.nodes) values.set(n.output, run[n.op](n, values));
      return values.get(graph.output);
    });
    const scores = y.dataSync();
    x.dispose();
    y.dispose();
    return scores;
  };
}
