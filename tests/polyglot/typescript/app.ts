// The jobs in TypeScript. The export is named after the interface; 64-bit integers are bigint.

interface Summary {
  count: number;
  mean: number;
  minimum: number;
  maximum: number;
}

export const jobs = {
  add(a: number, b: number): number {
    return (a + b) | 0;
  },

  greet(name: string): string {
    return `Hello, ${name}!`;
  },

  stats(values: Float64Array): Summary {
    const count = values.length;
    if (count === 0) {
      return { count, mean: NaN, minimum: NaN, maximum: NaN };
    }
    const mean = values.reduce((sum, value) => sum + value, 0) / count;
    const minimum = values.reduce((least, value) => Math.min(least, value));
    const maximum = values.reduce((most, value) => Math.max(most, value));
    return { count, mean, minimum, maximum };
  },

  parse(text: string): number {
    if (!/^[0-9]+$/.test(text) || Number(text) >= 2 ** 32) {
      throw `not a number: ${text}`; // what is thrown is the error of the result
    }
    return Number(text);
  },

  checksum(data: Uint8Array): bigint {
    return data.reduce(
      (hash, byte) => BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n),
      0xcbf29ce484222325n,
    );
  },
};
