const same = (value) => equal(structuredClone(value), value);
test('primitives', () => {
  for (const value of [undefined, null, true, false, 0, -0, 1, -1, 1.5, NaN, Infinity, -Infinity, 2 ** 53, -(2 ** 53), 2 ** 53 - 1, 1e300, 5e-324, 0n, 1n, -1n, 2n ** 200n, -(2n ** 200n), '', 'abc', 'é€😀', '\ud800', 'a\udc00b', '\0']) {
    const copy = structuredClone(value);
    ok(Object.is(copy, value), `${show(value)} became ${show(copy)}`);
  }
});
test('objects, arrays, holes', () => {
  same({ a: 1, b: { c: [1, 'x', null, undefined] }, 0: 'z', __proto__: null });
  const holes = [1, , 3, undefined, ,];
  const copy = structuredClone(holes);
  equal([copy, copy.length, 1 in copy, 3 in copy], [holes, 5, false, true]);
  const sparse = [];
  sparse[1000000] = 1;
  sparse.extra = 'e';
  const other = structuredClone(sparse);
  equal([other.length, Object.keys(other), other[1000000], other.extra], [1000001, ['1000000', 'extra'], 1, 'e']);
  const odd = structuredClone(JSON.parse('{"__proto__": 5, "constructor": 6}'));
  equal([Object.keys(odd), Object.getPrototypeOf(odd) === Object.prototype], [['__proto__', 'constructor'], true]);
  same({ [Symbol('s')]: 1 });
  equal(structuredClone(new (class Foo { a = 1; get b() { return 2; } })()), { a: 1 });
});
test('classes of the language', () => {
  equal(structuredClone(new Date(5)).getTime(), 5);
  ok(Number.isNaN(structuredClone(new Date(NaN)).getTime()));
  const regexp = structuredClone(/a\/b[c]/gi);
  equal([regexp.source, regexp.flags, regexp.lastIndex], ['a\\/b[c]', 'gi', 0]);
  const map = structuredClone(new Map([[{ k: 1 }, new Map([['in', new Set([1])]])], ['b', undefined]]));
  equal([map instanceof Map, [...map.keys()], map.get('b')], [true, [{ k: 1 }, 'b'], undefined]);
  same(new Set([1, 'a', { b: 1 }]));
  for (const value of [5, 'x', true, 5n]) equal([typeof structuredClone(Object(value)), structuredClone(Object(value)).valueOf()], ['object', value]);
});
test('buffers and views share', () => {
  const buffer = new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8]).buffer;
  const copy = structuredClone({ a: new Uint8Array(buffer, 2, 3), b: new DataView(buffer, 1), c: buffer, d: new Float64Array(buffer), e: new BigInt64Array(buffer), f: new Uint8ClampedArray(buffer), g: new Float16Array(buffer) });
  equal([copy.a, copy.b.byteOffset, copy.b.byteLength, copy.a.buffer === copy.c, copy.b.buffer === copy.c, copy.c === buffer, copy.d.length, copy.e.length], [new Uint8Array([3, 4, 5]), 1, 7, true, true, false, 1, 1]);
  copy.a[0] = 9;
  equal([new Uint8Array(copy.c)[2], new Uint8Array(buffer)[2]], [9, 3]);
});
test('errors', () => {
  const error = new RangeError('x', { cause: { a: 1 } });
  error.code = 5;
  const copy = structuredClone(error);
  equal([copy.name, copy.message, copy.cause, copy.code, copy instanceof RangeError, copy.stack === error.stack], ['RangeError', 'x', { a: 1 }, 5, true, true]);
  class Mine extends Error { name = 'Mine'; }
  const mine = structuredClone(new Mine('m'));
  equal([Object.getPrototypeOf(mine) === Error.prototype, mine.message, Object.hasOwn(structuredClone(new Error()), 'message')], [true, 'm', false]);
  const dom = structuredClone(new DOMException('a', 'AbortError'));
  equal([dom.name, dom.message, dom instanceof DOMException], ['AbortError', 'a', true]);
});
test('identity and cycles', () => {
  const a = { list: [] };
  a.self = a;
  a.list.push(a, a.list);
  const map = new Map();
  map.set(map, map);
  const error = new Error('e');
  error.cause = error;
  error.me = error;
  const copy = structuredClone({ a, b: a, map, error });
  ok(copy.a === copy.b && copy.a.self === copy.a && copy.a.list[1] === copy.a.list && copy.map.get(copy.map) === copy.map && copy.error.me === copy.error);
});
test('what cannot be cloned', () => {
  for (const [value, text] of [
    [() => {}, '() => {} could not be cloned.'],
    [{ a: { f: function foo() {} } }, 'function foo() {} could not be cloned.'],
    [Symbol('a'), 'Symbol(a) could not be cloned.'],
    [Promise.resolve(), '#<Promise> could not be cloned.'],
    [new WeakMap(), '#<WeakMap> could not be cloned.'],
    [new Proxy({}, {}), '#<Object> could not be cloned.'],
    [(function () { return arguments; })(1), '#<Object> could not be cloned.'],
    [(function* () {})(), '[object Generator] could not be cloned.'],
    [[][Symbol.iterator](), '[object Array Iterator] could not be cloned.'],
    [Object(Symbol('a')), '[object Symbol] could not be cloned.'],
    [globalThis, '#<ServiceWorkerGlobalScope> could not be cloned.'],
    [new ReadableStream(), 'ReadableStream can only be serialized for RPC.'],
    [new Event('a'), 'Could not serialize object of type "Event". This type does not support serialization.'],
    [new AbortController(), 'Could not serialize object of type "AbortController". This type does not support serialization.'],
  ]) equal(throws(() => structuredClone(value), `DataCloneError: ${text}`).code, 25);
  throws(() => structuredClone(), "TypeError: Failed to execute 'structuredClone' on 'ServiceWorkerGlobalScope': parameter 1 is not of type 'Value'.");
  throws(() => structuredClone({ get a() { throw new Error('mine'); } }), 'Error: mine');
});
test('depth is bounded', () => {
  let deep = [];
  for (let i = 0; i < 200; i++) deep = [deep];
  let levels = 0;
  for (let copy = structuredClone(deep); copy !== undefined; copy = copy[0]) levels++;
  equal(levels, 201);
  for (let i = 0; i < 100000; i++) deep = { deep };
  throws(() => structuredClone(deep), 'DataCloneError: The value is nested too deeply to be cloned.');
});
test('size is bounded, though a string that is there once is written often', () => {
  const long = 'x'.repeat(1 << 20);
  const often = (count) => Array.from({ length: count }, () => ({ long }));
  equal(structuredClone(often(10)).length, 10);
  throws(() => structuredClone(often(100)), 'DataCloneError: The value is too large to be cloned.');
});
test('a getter that takes away what follows', () => {
  const object = { get a() { delete object.b; return 1; }, b: 2, c: 3 };
  equal(structuredClone(object), { a: 1, c: 3 });
  const list = [{ get x() { list.length = 1; return 1; } }, 2, 3];
  equal(structuredClone(list), [{ x: 1 }, undefined, undefined]);
});
test('transfer', () => {
  const buffer = new ArrayBuffer(4);
  const copy = structuredClone({ buffer }, { transfer: [buffer] });
  equal([buffer.byteLength, buffer.detached, copy.buffer.byteLength], [0, true, 4]);
  throws(() => structuredClone(buffer), 'DataCloneError: An ArrayBuffer is detached and could not be cloned.');
  for (const other of [{}, 5, new ReadableStream()]) throws(() => structuredClone(1, { transfer: [other] }), 'TypeError: Object is not transferable');
  for (const list of ['x', 5, null, new Set([new ArrayBuffer(1)])]) throws(() => structuredClone(1, { transfer: list }), "TypeError: Incorrect type for the 'transfer' field on 'StructuredCloneOptions': the provided value is not of type 'Array'.");
  for (const options of [5, 'x']) throws(() => structuredClone(1, options), "TypeError: Failed to execute 'structuredClone' on 'ServiceWorkerGlobalScope': parameter 2 is not of type 'StructuredCloneOptions'.");
  const twice = new ArrayBuffer(4);
  equal([structuredClone(twice, { transfer: [twice, twice, new Uint8Array(twice)] }).byteLength, twice.detached, structuredClone(1, null)], [4, true, 1]);
  const kept = new ArrayBuffer(4);
  throws(() => structuredClone({ kept, f() {} }, { transfer: [kept] }), 'DataCloneError: f() {} could not be cloned.');
  equal(kept.detached, false);
});
test('one value has one form, and every cut is refused', () => {
  const value = { a: [1, , -0, NaN, 'x\ud800', 5n], b: new Map([[1, new Set([new Date(3)])]]), c: /x/g, d: new Uint16Array([1, 2]), e: new TypeError('t', { cause: 1 }), f: new DOMException('m', 'AbortError'), g: Object('s') };
  value.h = value;
  const form = dispatch.serialize(value);
  equal(dispatch.serialize(dispatch.deserialize(form)), form);
  for (let length = 0; length < form.length; length++) {
    let thrown = false;
    try { dispatch.deserialize(form.slice(0, length)); } catch { thrown = true; }
    ok(thrown, `cut at ${length}`);
  }
  throws(() => dispatch.deserialize(new Uint8Array([...form, 0])), 'Error: something follows the value');
  throws(() => dispatch.deserialize(new Uint8Array([9, 0])), 'Error: the value has the unknown format 9');
  throws(() => dispatch.deserialize(new Uint8Array([1, 99])), 'Error: the value has an unknown tag 99');
  throws(() => dispatch.deserialize(new Uint8Array([1, 9, 0])), 'Error: the value has a part that cannot be');
});
test('bytes that were changed at will are refused or make a value, and nothing else', () => {
  const forms = [{ a: [1, 'x', , {}], m: new Map([[1, 2]]) }, [new Error('e', { cause: [] }), /a/g, new Date(1)], [new Uint8Array(4), new DataView(new ArrayBuffer(3)), 2n ** 70n]].map((v) => dispatch.serialize(v));
  let seed = 12345;
  const random = (n) => { seed = (seed * 1103515245 + 12345) % 2147483648; return seed % n; };
  for (let round = 0; round < 4000; round++) {
    const form = new Uint8Array(forms[round % 3]);
    for (let i = 0; i <= random(3); i++) form[1 + random(form.length - 1)] = random(256);
    try { dispatch.serialize(dispatch.deserialize(form)); } catch (error) { ok(error instanceof Error); }
  }
});
test('values made at will come back as they are, with what they share', () => {
  let seed = 7;
  const random = (n) => { seed = (seed * 1103515245 + 12345) % 2147483648; return Math.floor(seed / 65536) % n; };
  const texts = ['', 'a', 'é€😀', '\ud800x', '__proto__', 'length', '0', '4294967295'];
  const numbers = [0, -0, 1, -1, 0.1, NaN, Infinity, -Infinity, 2 ** 31, 2 ** 53, -(2 ** 53) + 1, 1e-320];
  const make = (depth, made) => {
    const kind = random(depth > 4 ? 8 : 20);
    if (kind < 2) return numbers[random(numbers.length)];
    if (kind < 4) return texts[random(texts.length)];
    if (kind === 4) return [undefined, null, true, false][random(4)];
    if (kind === 5) return (-1n) ** BigInt(random(2)) * BigInt(random(1000)) ** BigInt(random(20));
    if (kind < 8) return made.length > 0 ? made[random(made.length)] : 0;
    const add = (value) => { made.push(value); return value; };
    const each = (put) => { for (let i = random(4); i > 0; i--) put(make(depth + 1, made)); };
    if (kind < 11) { const object = add({}); each((v) => Object.defineProperty(object, texts[random(texts.length)], { value: v, enumerable: true, configurable: true, writable: true })); return object; }
    if (kind < 13) { const list = add([]); each((v) => { list[list.length + random(2)] = v; }); list.length += random(2); if (random(4) === 0) list.extra = 1; return list; }
    if (kind === 13) { const map = add(new Map()); each((v) => map.set(v, make(depth + 1, made))); return map; }
    if (kind === 14) { const set = add(new Set()); each((v) => set.add(v)); return set; }
    if (kind === 15) return add(new Date(random(2) ? NaN : random(1e6)));
    if (kind === 16) { const buffer = new Uint8Array(8 + random(3) * 8).map(() => random(256)).buffer; add(buffer); const Views = [Uint8Array, Int16Array, Float64Array, DataView, BigInt64Array, Float16Array]; return add(new Views[random(6)](buffer, 8 * random(2))); }
    if (kind === 17) { const error = add(new [Error, TypeError, RangeError][random(3)](texts[random(4)])); if (random(2)) error.code = make(depth + 1, made); return error; }
    if (kind === 18) return add(Object([1, 'x', true, 5n][random(4)]));
    return add(new RegExp(['a', '/', '[bc]d'][random(3)], ['', 'g', 'gi', 'u'][random(4)]));
  };
  const differ = (a, b, known) => {
    if (typeof a !== 'object' || a === null) return Object.is(a, b) ? '' : `${show(a)} and ${show(b)}`;
    if (known.has(a)) return known.get(a) === b ? '' : 'another object';
    known.set(a, b);
    if (typeof b !== 'object' || Object.getPrototypeOf(a) !== Object.getPrototypeOf(b)) return 'another class';
    if (a instanceof Date && !Object.is(a.getTime(), b.getTime())) return 'another date';
    if (a instanceof RegExp && `${a}` !== `${b}`) return 'another expression';
    if (a instanceof Error && (a.message !== b.message || a.stack !== b.stack)) return 'another error';
    if (a instanceof ArrayBuffer) return show(a) === show(b) ? '' : 'other bytes';
    if (ArrayBuffer.isView(a)) return a.byteOffset === b.byteOffset && a.byteLength === b.byteLength ? differ(a.buffer, b.buffer, known) : 'another view';
    if (a instanceof Map || a instanceof Set) { const [x, y] = [[...a], [...b]].map((list) => list.flat()); if (x.length !== y.length) return 'another size'; for (let i = 0; i < x.length; i++) { const d = differ(x[i], y[i], known); if (d) return d; } return ''; }
    const keys = Object.keys(a);
    if (show(keys) !== show(Object.keys(b)) || (Array.isArray(a) && a.length !== b.length)) return `keys ${show(keys)} and ${show(Object.keys(b))}`;
    for (const key of keys) { const d = differ(a[key], b[key], known); if (d) return `${key}: ${d}`; }
    return typeof a.valueOf() === 'object' ? '' : differ(a.valueOf(), b.valueOf(), known);
  };
  for (let round = 0; round < 800; round++) {
    const value = make(0, []);
    const form = dispatch.serialize(value);
    const copy = dispatch.deserialize(form);
    equal(differ(value, copy, new Map()), '', `round ${round}:`);
    equal(dispatch.serialize(copy), form, `round ${round}:`);
  }
});
