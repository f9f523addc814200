const line = (...args) => { host.lines.length = 0; console.log(...args); equal(host.lines.length, 1); return host.lines[0].slice('log: '.length); };
test('levels', () => {
  for (const level of ['debug', 'error', 'info', 'log', 'warn']) console[level]('x', 1);
  equal(host.lines, ['debug: x 1', 'error: x 1', 'info: x 1', 'log: x 1', 'warn: x 1']);
});
test('primitives and short objects', () => {
  equal(line('a', 1, -0, 10n, undefined, null, true, Symbol('x')), 'a 1 -0 10n undefined null true Symbol(x)');
  equal(line({ a: 1, b: 'x', c: [1, 2, 3], d: { e: { f: { g: 1 } } } }, [undefined, , 3], new Map([[1, { a: 2 }]]), new Set(['a']), new Date(0), /x/g, () => 1, function foo() {}, class A {}, class B extends Array {}),
    "{ a: 1, b: 'x', c: [ 1, 2, 3 ], d: { e: { f: [Object] } } } [ undefined, <1 empty item>, 3 ] Map(1) { 1 => { a: 2 } } Set(1) { 'a' } 1970-01-01T00:00:00.000Z /x/g [Function (anonymous)] [Function: foo] [class A] [class B extends Array]");
  equal(line(new Uint8Array(3), new ArrayBuffer(4), Promise.resolve(4), new Promise(() => {}), new WeakMap(), Object.create(null), new (class Foo { x = 1; })()),
    'Uint8Array(3) [ 0, 0, 0 ] ArrayBuffer { [Uint8Contents]: <00 00 00 00>, byteLength: 4 } Promise { 4 } Promise { <pending> } WeakMap { <items unknown> } [Object: null prototype] {} Foo { x: 1 }');
});
test('directives', () => {
  equal(line('%s is %d and %i %f %j %o %O %%', 'x', 42.5, 42.5, '1.5', { a: 1 }, { a: 1 }, { a: 1 }, 'rest', { z: 1 }), 'x is 42.5 and 42 1.5 {"a":1} { a: 1 } { a: 1 } % rest { z: 1 }');
  equal(line('100%', 1), '100% 1');
  equal(line('%s'), '%s');
});
test('layout of long things', () => {
  equal(line(['x'.repeat(100), 'y'.repeat(20)]), `[\n  '${'x'.repeat(100)}',\n  'yyyyyyyyyyyyyyyyyyyy'\n]`);
  const numbers = line(Array.from({ length: 120 }, (_, i) => i)).split('\n');
  equal([numbers[1], numbers[2], numbers[9], numbers[10], numbers.length], ['   0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11,', '  12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23,', '  96, 97, 98, 99,', '  ... 20 more items', 12]);
  equal(line("it's", ["it's"], ['a\nb']), `it's [ "it's" ] [ 'a\\nb' ]`);
  equal(line([1.5, 'a', null, { a: [{}] }, [[[[1]]]]]), "[ 1.5, 'a', null, { a: [ {} ] }, [ [ [Array] ] ] ]");
  equal(line({ 'a-b': 1, [Symbol('s')]: 2, get x() { return 1; }, set x(v) {}, get y() { return 1; }, f() {}, async g() {} }),
    "{\n  'a-b': 1,\n  x: [Getter/Setter],\n  y: [Getter],\n  f: [Function: f],\n  g: [AsyncFunction: g],\n  Symbol(s): 2\n}");
  const c = {};
  c.c = c;
  equal(line(c), '<ref *1> { c: [Circular *1] }');
  equal(line([['x', true, false, false, 0, undefined, 0, false, false, true, false, undefined, undefined]][0]),
    "[\n  'x',       true,\n  false,     false,\n  0,         undefined,\n  0,         false,\n  false,     true,\n  false,     undefined,\n  undefined\n]");
  equal(line(['debug', 'error', 'info', 'log', 'warn', 'dir', 'dirxml', 'table']), "[\n  'debug',  'error',\n  'info',   'log',\n  'warn',   'dir',\n  'dirxml', 'table'\n]");
});
test('errors have their first line and their stack', () => {
  const shown = line(new RangeError('boom'));
  ok(shown.startsWith('RangeError: boom\n    at '), shown);
  const more = line(Object.assign(new Error('x', { cause: 'why' }), { code: 5 }));
  ok(more.startsWith('Error: x\n    at ') && more.endsWith("{\n  code: 5,\n  [cause]: 'why'\n}"), more);
  const bare = new Error('bare');
  bare.stack = '';
  equal(line({ e: bare }), '{ e: [Error: bare] }');
});
test('web classes', () => {
  equal(line(new AbortController()), 'AbortController {\n  signal: AbortSignal { aborted: false, reason: undefined, onabort: null }\n}');
  equal(line(new TextEncoder()), "TextEncoder { encoding: 'utf-8' }");
});
test('a getter or proxy is not asked', () => {
  equal(line({ get a() { throw new Error('asked'); } }, new Proxy({}, { ownKeys() { throw new Error('asked'); } })), '{ a: [Getter] } [Proxy]');
});
test('the others', () => {
  console.assert(true, 'x');
  console.assert(false, 'no');
  console.count();
  console.count('x');
  console.count();
  console.group('g');
  console.log('in\nside');
  console.groupEnd();
  console.dir({ a: 1 });
  console.table([{ a: 1, b: 'x' }]);
  equal(host.lines, ['error: Assertion failed: no', 'log: default: 1', 'log: x: 1', 'log: default: 2', 'log: g', 'log:   in\n  side', 'log: { a: 1 }',
    "log: ┌─────────┬───┬─────┐\n│ (index) │ a │ b   │\n├─────────┼───┼─────┤\n│ 0       │ 1 │ 'x' │\n└─────────┴───┴─────┘"]);
  reportError(new TypeError('rep'));
  ok(host.lines.at(-1).startsWith('error: Uncaught TypeError: rep\n'), host.lines.at(-1));
});
