// The jobs in JavaScript. The export is named after the interface; 64-bit integers are BigInt.

export const jobs = {
  add(a, b) {
    return (a + b) | 0;
  },

  greet(name) {
    return `Hello, ${name}!`;
  },

  stats(values) {
    if (values.length === 0) {
      return { count: 0, mean: NaN, minimum: NaN, maximum: NaN };
    }
    let [sum, minimum, maximum] = [0, Infinity, -Infinity];
    for (const value of values) {
      sum += value;
      minimum = Math.min(minimum, value);
      maximum = Math.max(maximum, value);
    }
    return { count: values.length, mean: sum / values.length, minimum, maximum };
  },

  parse(text) {
    if (!/^[0-9]+$/.test(text) || Number(text) >= 2 ** 32) {
      throw `not a number: ${text}`; // what is thrown is the error of the result
    }
    return Number(text);
  },

  checksum(data) {
    let hash = 0xcbf29ce484222325n;
    for (const byte of data) {
      hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
    }
    return hash;
  },
};
