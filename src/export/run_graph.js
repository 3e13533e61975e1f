/* ---- The network: a graph of ONNX operators -----------------------------------

   A tensor is `{ shape, values }`: float32 values in row-major order. Truth values are
   0 and 1. A graph is that of manifest.json: `{ input, output, nodes }`, and a node
   `{ op, inputs, output, attributes }`. An operator takes its input tensors and its
   attributes and returns one tensor. It never changes its inputs: tensors share values. */

/**
 * Runs a graph.
 *
 * @param constants pairs of name and tensor.
 * @param input tensor of the graph's input.
 * @returns tensor of the graph's output.
 * @throws Error if an operator is unknown.
 */
function runGraph(graph, constants, input) {
  const tensors = new Map(constants).set(graph.input, input);
  const lastUse = new Map();
  graph.nodes.forEach(({ inputs }, index) =>
    inputs.forEach((name) => lastUse.set(name, index)));
  graph.nodes.forEach(({ op, inputs, output, attributes }, index) => {
    if (!Object.hasOwn(OPERATORS, op)) throw new Error(`${op}: unknown operator.`);
    const operands = inputs.map((name) => tensors.get(name));
    tensors.set(output, OPERATORS[op](operands, attributes));
    // Frees memory: a network for large pictures has hundreds of megabytes of them.
    for (const name of inputs) if (lastUse.get(name) === index) tensors.delete(name);
  });
  return tensors.get(graph.output);
}

/** Decodes a tensor of float32 numbers, or of int16 numbers and scales along an axis. */
function decodeTensor({ shape, float32, int16, scales, axis }) {
  if (float32 !== undefined) return { shape, values: new Float32Array(bytesOf(float32)) };
  const factors = new Float32Array(bytesOf(scales));
  const stride = sizeOf(shape.slice(axis + 1));
  const values = Float32Array.from(new Int16Array(bytesOf(int16)), (value, index) =>
    value * factors[Math.floor(index / stride) % factors.length]);
  return { shape, values };
}

/** The bytes of numbers in base64: little-endian, like all devices with a browser. */
function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let index = 0; index < text.length; index++) bytes[index] = text.charCodeAt(index);
  return bytes.buffer;
}

const OPERATORS = {
  // One number to one number.
  Abs: each(Math.abs),
  Cast: ([input]) => input, // From uint8 or truth values, which are floats already.
  Clip: ([input], { min, max }) =>
    mapValues(input, (value) => Math.min(max, Math.max(min, value))),
  Erf: each(errorFunction),
  Exp: each(Math.exp),
  Log: each(Math.log),
  Neg: each((value) => -value),
  Not: each((value) => value ? 0 : 1),
  Relu: each((value) => value < 0 ? 0 : value),
  Sigmoid: each((value) => 1 / (1 + Math.exp(-value))),
  Sqrt: each(Math.sqrt),
  Tanh: each(Math.tanh),

  // Two numbers to one number, with broadcasting.
  Add: pairs((a, b) => a + b),
  And: pairs((a, b) => a && b ? 1 : 0),
  Div: pairs((a, b) => a / b),
  Equal: pairs((a, b) => a === b ? 1 : 0),
  Greater: pairs((a, b) => a > b ? 1 : 0),
  GreaterOrEqual: pairs((a, b) => a >= b ? 1 : 0),
  Less: pairs((a, b) => a < b ? 1 : 0),
  LessOrEqual: pairs((a, b) => a <= b ? 1 : 0),
  Max: pairs((a, b) => Math.max(a, b)),
  Min: pairs((a, b) => Math.min(a, b)),
  Mul: pairs((a, b) => a * b),
  Or: pairs((a, b) => a || b ? 1 : 0),
  Pow: pairs((a, b) => a ** b),
  Sub: pairs((a, b) => a - b),
  Where: where,

  // Sums and other reductions.
  AveragePool: (inputs, attributes) => {
    const pixels = sizeOf(attributes.kernel_shape); // Padding counts.
    return pool(inputs, attributes, 0, (sum, value) => sum + value / pixels);
  },
  Conv: convolve,
  Gemm: ([input, kernel, bias]) => OPERATORS.Add([matrixProduct([input, kernel]), bias]),
  MatMul: matrixProduct,
  MaxPool: (inputs, attributes) =>
    pool(inputs, attributes, -Infinity, (most, value) => Math.max(most, value)),
  ReduceMax: reduction((line) => line.reduce((a, b) => Math.max(a, b))),
  ReduceMean: reduction(meanOfLine),
  ReduceMin: reduction((line) => line.reduce((a, b) => Math.min(a, b))),
  ReduceSum: reduction(sumOfLine),
  Softmax: ([input], { axis }) => alongAxis(input, axis, softmaxOfLine),

  // The same numbers in other places.
  Concat: concatenate,
  Pad: pad,
  Reshape: ([{ values }], { shape }) => {
    const known = shape.filter((length) => length !== -1);
    const rest = values.length / sizeOf(known);
    return { shape: shape.map((length) => length === -1 ? rest : length), values };
  },
  Slice: slice,
  Transpose: ([input], { perm }) => transpose(input, perm),
};

/* Shapes. */

function sizeOf(shape) {
  return shape.reduce((size, length) => size * length, 1);
}

/** How many values apart two neighbours of each axis are. */
function stridesOf(shape) {
  return shape.map((_, axis) => sizeOf(shape.slice(axis + 1)));
}

/** Copies values to row-major order: index `i` is at `start + sum of i * strides`. */
function strided(values, shape, strides, start = 0) {
  const outputs = new Float32Array(sizeOf(shape));
  const last = shape.length - 1;
  const [length, step] = last < 0 ? [1, 0] : [shape[last], strides[last]];
  const index = shape.map(() => 0);
  let from = start;
  for (let to = 0; to < outputs.length; to += length) {
    for (let column = 0; column < length; column++) {
      outputs[to + column] = values[from + column * step];
    }
    // The next index, and its place.
    for (let axis = last - 1; axis >= 0; axis--) {
      from += strides[axis];
      if (++index[axis] < shape[axis]) break;
      from -= strides[axis] * shape[axis];
      index[axis] = 0;
    }
  }
  return outputs;
}

function transpose({ shape, values }, perm) {
  const strides = stridesOf(shape);
  const turned = perm.map((axis) => shape[axis]);
  return { shape: turned, values: strided(values, turned, perm.map((axis) => strides[axis])) };
}

/** The values of a tensor repeated to a shape, as numpy broadcasts them. */
function expand({ shape, values }, target) {
  if (values.length === sizeOf(target)) return values;
  if (values.length === 1) return new Float32Array(sizeOf(target)).fill(values[0]);
  const missing = target.length - shape.length;
  const strides = stridesOf(shape);
  const steps = target.map((_, axis) =>
    axis < missing || shape[axis - missing] === 1 ? 0 : strides[axis - missing]);
  return strided(values, target, steps);
}

/** The shape of tensors that are broadcast against each other. */
function commonShape(...shapes) {
  const rank = Math.max(...shapes.map((shape) => shape.length));
  return Array.from({ length: rank }, (_, axis) =>
    Math.max(...shapes.map((shape) => shape[axis - rank + shape.length] ?? 1)));
}

function slice([{ shape, values }], { axes, starts, ends, steps }) {
  const [strides, sliced] = [stridesOf(shape), [...shape]];
  let start = 0;
  axes.forEach((axis, index) => {
    start += starts[index] * strides[axis];
    strides[axis] *= steps[index];
    sliced[axis] = Math.ceil((ends[index] - starts[index]) / steps[index]);
  });
  return { shape: sliced, values: strided(values, sliced, strides, start) };
}

function pad([input], { pads, value }) {
  const rank = input.shape.length;
  return input.shape.reduce((padded, _, axis) => {
    const filled = (length) => {
      const shape = Object.assign([...padded.shape], { [axis]: length });
      return { shape, values: new Float32Array(sizeOf(shape)).fill(value) };
    };
    const [before, after] = [pads[axis], pads[axis + rank]];
    if (!before && !after) return padded;
    return concatenate([filled(before), padded, filled(after)], { axis });
  }, input);
}

function concatenate(inputs, { axis }) {
  const shape = [...inputs[0].shape];
  shape[axis] = inputs.reduce((sum, input) => sum + input.shape[axis], 0);
  const outputs = new Float32Array(sizeOf(shape));
  const line = sizeOf(shape.slice(axis));
  let start = 0;
  for (const input of inputs) {
    const part = sizeOf(input.shape.slice(axis));
    for (let from = 0, to = start; from < input.values.length; from += part, to += line) {
      outputs.set(input.values.subarray(from, from + part), to);
    }
    start += part;
  }
  return { shape, values: outputs };
}

/* Numbers one by one. */

function mapValues({ shape, values }, change) {
  const outputs = new Float32Array(values.length);
  for (let index = 0; index < outputs.length; index++) outputs[index] = change(values[index]);
  return { shape, values: outputs };
}

/** The operator that changes each number. */
function each(change) {
  return ([input]) => mapValues(input, change);
}

/** The operator that merges each pair of numbers. */
function pairs(merge) {
  return ([first, second]) => {
    const shape = commonShape(first.shape, second.shape);
    const [a, b] = [expand(first, shape), expand(second, shape)];
    const outputs = new Float32Array(a.length);
    for (let index = 0; index < outputs.length; index++) {
      outputs[index] = merge(a[index], b[index]);
    }
    return { shape, values: outputs };
  };
}

function where(inputs) {
  const shape = commonShape(...inputs.map((input) => input.shape));
  const [condition, yes, no] = inputs.map((input) => expand(input, shape));
  return { shape, values: condition.map((truth, index) => truth ? yes[index] : no[index]) };
}

/** erf(x), by the series 2 / sqrt(pi) exp(-x²) (x + 2x³/3 + 4x⁵/15 + ...). */
function errorFunction(x) {
  if (Math.abs(x) > 4) return Math.sign(x); // In float32.
  let [term, sum] = [x, x];
  for (let odd = 3; Math.abs(term) > 1e-9 * Math.abs(sum); odd += 2) {
    term *= 2 * x * x / odd;
    sum += term;
  }
  return 2 / Math.sqrt(Math.PI) * Math.exp(-x * x) * sum;
}

/* Lines: the numbers along some axes. */

/** Replaces the numbers along axes by one, that `merge` makes of them. */
function reduce([input], { axes, keepdims }, merge) {
  const kept = input.shape.map((_, axis) => axis).filter((axis) => !axes.includes(axis));
  const { values } = transpose(input, [...kept, ...axes]);
  const length = sizeOf(axes.map((axis) => input.shape[axis]));
  const outputs = Float32Array.from({ length: values.length / length }, (_, line) =>
    merge(values.subarray(line * length, (line + 1) * length)));
  const shape = keepdims
    ? input.shape.map((size, axis) => axes.includes(axis) ? 1 : size)
    : kept.map((axis) => input.shape[axis]);
  return { shape, values: outputs };
}

/** The operator that reduces by `merge`. */
function reduction(merge) {
  return (inputs, attributes) => reduce(inputs, attributes, merge);
}

function sumOfLine(line) {
  let sum = 0;
  for (let index = 0; index < line.length; index++) sum += line[index];
  return sum;
}

function meanOfLine(line) {
  return sumOfLine(line) / line.length;
}

/** Replaces the numbers along an axis by as many others. */
function alongAxis(input, axis, change) {
  const perm = input.shape.map((_, index) => index);
  [perm[axis], perm[perm.length - 1]] = [perm.length - 1, axis];
  const turned = transpose(input, perm); // A copy; `change` may work in place.
  const length = input.shape[axis];
  for (let start = 0; start < turned.values.length; start += length) {
    change(turned.values.subarray(start, start + length));
  }
  return transpose(turned, perm); // Exchanges the same two axes again.
}

function softmaxOfLine(line) {
  const largest = line.reduce((a, b) => Math.max(a, b));
  const powers = Array.from(line, (value) => Math.exp(value - largest));
  const sum = sumOfLine(powers);
  powers.forEach((power, index) => line[index] = power / sum);
}

/* Pools and convolutions: `[batch, channels, height, width]`. */

/** The size of a window's outputs in one direction. */
function countWindows(length, window, { stride, before, after, dilation = 1 }) {
  return Math.floor((length + before + after - dilation * (window - 1) - 1) / stride) + 1;
}

/** Strides, dilations and padding of the rows or of the columns. */
function alongRowsOrColumns({ strides, pads, dilations = [1, 1] }, axis) {
  return {
    stride: strides[axis],
    dilation: dilations[axis],
    before: pads[axis],
    after: pads[axis + 2],
  };
}

/** The part of a window that is inside of the image: first, and last + 1. */
function validRange(start, window, length) {
  return [Math.max(0, start), Math.min(start + window, length)];
}

/** Merges the numbers of each window, from `initial` on; passes over padding. */
function pool([{ shape, values }], attributes, initial, merge) {
  const [batch, channels, height, width] = shape;
  const [tall, wide] = attributes.kernel_shape;
  const [down, across] = [0, 1].map((axis) => alongRowsOrColumns(attributes, axis));
  const [rows, columns] = [countWindows(height, tall, down), countWindows(width, wide, across)];
  const outputs = new Float32Array(batch * channels * rows * columns);
  let to = 0;
  for (let plane = 0; plane < batch * channels; plane++) {
    for (let row = 0; row < rows; row++) {
      const [top, bottom] = validRange(row * down.stride - down.before, tall, height);
      for (let column = 0; column < columns; column++) {
        const [left, right] = validRange(column * across.stride - across.before, wide, width);
        let merged = initial;
        for (let y = top; y < bottom; y++) {
          const line = (plane * height + y) * width;
          for (let x = left; x < right; x++) merged = merge(merged, values[line + x]);
        }
        outputs[to++] = merged;
      }
    }
  }
  return { shape: [batch, channels, rows, columns], values: outputs };
}

const PATCHES = 65536; // Numbers, so that patches stay in the cache of a core.

/** Convolution: patches of some rows of outputs at a time, times the kernel. */
function convolve([{ shape, values }, kernel, bias], attributes) {
  const [batch, channels, height, width] = shape;
  const [filters, depth, tall, wide] = kernel.shape;
  const [down, across] = [0, 1].map((axis) => alongRowsOrColumns(attributes, axis));
  const [rows, columns] = [countWindows(height, tall, down), countWindows(width, wide, across)];
  const { group } = attributes;
  const size = depth * tall * wide;
  const step = Math.min(rows, Math.max(1, Math.floor(PATCHES / (size * columns))));
  const patches = new Float32Array(size * step * columns);
  const outputs = new Float32Array(batch * filters * rows * columns);
  for (let part = 0; part < batch * group; part++) {
    const planes = values.subarray(part * depth * height * width);
    const image = { values: planes, depth, height, width };
    const first = (part % group) * filters / group;
    const weights = kernel.values.subarray(first * size);
    const start = part * filters / group * rows * columns;
    for (let row = 0; row < rows; row += step) {
      const some = Math.min(step, rows - row);
      fillPatches(patches, image, { tall, wide, down, across }, row, some, columns);
      multiply(weights, patches, outputs.subarray(start + row * columns), {
        rows: filters / group, inner: size, columns: some * columns, stride: rows * columns,
      });
    }
  }
  if (bias) addToPlanes(outputs, bias.values, rows * columns);
  return { shape: [batch, filters, rows, columns], values: outputs };
}

function addToPlanes(outputs, bias, size) {
  for (let index = 0, plane = 0; index < outputs.length; plane++) {
    const value = bias[plane % bias.length];
    for (const end = index + size; index < end; index++) outputs[index] += value;
  }
}

/**
 * Writes the numbers that a convolution multiplies: `[depth * tall * wide, pixels]`.
 *
 * @param first and `rows`, of the outputs.
 */
function fillPatches(patches, image, { tall, wide, down, across }, first, rows, columns) {
  const { values, depth, height, width } = image;
  let to = 0;
  for (let channel = 0; channel < depth; channel++) {
    for (let row = 0; row < tall; row++) {
      for (let column = 0; column < wide; column++) {
        const shift = column * across.dilation - across.before;
        for (let line = first; line < first + rows; line++) {
          const y = line * down.stride - down.before + row * down.dilation;
          const inside = y >= 0 && y < height;
          const start = (channel * height + y) * width;
          for (let place = 0, x = shift; place < columns; place++, x += across.stride) {
            patches[to++] = inside && x >= 0 && x < width ? values[start + x] : 0;
          }
        }
      }
    }
  }
}

/* Products of matrices. */

/** The product of the last two axes; the others are broadcast. */
function matrixProduct([first, second]) {
  if (second.shape.length === 2 && first.shape.length > 2) {
    // All rows of the first at once.
    const [leading, inner] = [first.shape.slice(0, -1), first.shape.at(-1)];
    const lines = { shape: [sizeOf(leading), inner], values: first.values };
    const { shape, values } = matrixProduct([lines, second]);
    return { shape: [...leading, shape[1]], values };
  }
  const [rows, inner] = first.shape.slice(-2);
  const columns = second.shape.at(-1);
  const shape = commonShape(first.shape.slice(0, -2), second.shape.slice(0, -2));
  const a = expand(first, [...shape, rows, inner]);
  const b = expand(second, [...shape, inner, columns]);
  const outputs = new Float32Array(sizeOf(shape) * rows * columns);
  for (let index = 0; index < sizeOf(shape); index++) {
    multiply(
      a.subarray(index * rows * inner),
      b.subarray(index * inner * columns),
      outputs.subarray(index * rows * columns),
      { rows, inner, columns, stride: columns },
    );
  }
  return { shape: [...shape, rows, columns], values: outputs };
}

/**
 * Writes the product of `a`, `[rows, inner]`, and `b`, `[inner, columns]`, to `outputs`.
 *
 * Sums are in float64: more exact, and faster than float32 in today's browsers.
 *
 * @param stride between the rows of the outputs.
 */
function multiply(a, b, outputs, { rows, inner, columns, stride }) {
  if (rows === 1) return multiplyRow(a, b, outputs, inner, columns);
  const [evenRows, evenColumns] = [rows - rows % 4, columns - columns % 4];
  for (let row = 0; row < evenRows; row += 4) {
    for (let column = 0; column < evenColumns; column += 4) {
      multiplyTile(a, row * inner, b, column, inner, columns,
        outputs, row * stride + column, stride);
    }
  }
  for (let row = 0; row < rows; row++) {
    for (let column = row < evenRows ? evenColumns : 0; column < columns; column++) {
      let sum = 0;
      for (let index = 0; index < inner; index++) {
        sum += a[row * inner + index] * b[index * columns + column];
      }
      outputs[row * stride + column] = sum;
    }
  }
}

/** One row times a matrix, in the order of the matrix's memory. */
function multiplyRow(a, b, outputs, inner, columns) {
  const sums = new Float64Array(columns);
  for (let index = 0; index < inner; index++) {
    const value = a[index];
    if (value === 0) continue; // Frequent in drawings and after relu.
    const start = index * columns;
    for (let column = 0; column < columns; column++) {
      sums[column] += value * b[start + column];
    }
  }
  outputs.set(sums);
}

/** 4 rows times 4 columns, whose 16 sums stay in the processor's registers. */
function multiplyTile(a, row, b, column, inner, columns, outputs, to, stride) {
  let [a0, a1, a2, a3] = [row, row + inner, row + 2 * inner, row + 3 * inner];
  let s00 = 0, s01 = 0, s02 = 0, s03 = 0, s10 = 0, s11 = 0, s12 = 0, s13 = 0;
  let s20 = 0, s21 = 0, s22 = 0, s23 = 0, s30 = 0, s31 = 0, s32 = 0, s33 = 0;
  for (let end = a0 + inner; a0 < end; column += columns) {
    const p = a[a0++], q = a[a1++], r = a[a2++], s = a[a3++];
    const w = b[column], x = b[column + 1], y = b[column + 2], z = b[column + 3];
    s00 += p * w; s01 += p * x; s02 += p * y; s03 += p * z;
    s10 += q * w; s11 += q * x; s12 += q * y; s13 += q * z;
    s20 += r * w; s21 += r * x; s22 += r * y; s23 += r * z;
    s30 += s * w; s31 += s * x; s32 += s * y; s33 += s * z;
  }
  const write = (place, c0, c1, c2, c3) => {
    outputs[place] = c0; outputs[place + 1] = c1;
    outputs[place + 2] = c2; outputs[place + 3] = c3;
  };
  write(to, s00, s01, s02, s03);
  write(to + stride, s10, s11, s12, s13);
  write(to + 2 * stride, s20, s21, s22, s23);
  write(to + 3 * stride, s30, s31, s32, s33);
}
