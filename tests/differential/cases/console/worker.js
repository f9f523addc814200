class Point { constructor() { this.x = 1; } }
const LINES = {
  plain: () => console.log('a', 1, -0, true, null, undefined, 5n, Symbol('s')),
  formats: () => console.log('%s is %d of %i and %f %j %o %O %% %c', 'x', 4.5, 4.5, '1.5', { a: 1 }, [1], { b: 2 }, 'css', 'rest'),
  objects: () => console.log({ a: 1, 'b-c': 'text', d: { e: { f: { g: 1 } } } }, [1, [2, [3, [4, [5]]]]], [], {}),
  kinds: () => console.log(new Map([['k', { v: 1 }]]), new Set([1, 'x']), new Date(0), /re/g, new Point(), () => 1, function named() {}, class Foo {}, Symbol.iterator),
  bytes: () => console.log(new Uint8Array([1, 2, 3]), new ArrayBuffer(2), new Uint8Array(0)),
  levels: () => { console.info('info'); console.warn('warn'); console.error('error'); console.debug('debug'); },
  lines: () => console.log('one\ntwo'),
  nothing: () => console.log(),
  long: () => console.log('x'.repeat(200), Array.from({ length: 120 }, (_, i) => i).length),
  circle: () => { const circle = { name: 'c' }; circle.self = circle; console.log(circle); },
  texts: () => console.log(['a', "it's", 'both "\''], { text: 'line\nbreak' }),
  empties: () => console.log([undefined, null, , 3], Object.create(null), new (class extends Array {})(2)),
  promises: () => console.log(Promise.resolve(1), new WeakMap(), new Proxy({}, {})),
  getters: () => console.log({ get a() { return 1; }, set b(v) {}, get c() { return 1; }, set c(v) {}, [Symbol('s')]: 1, f() {} }),
  web: () => console.log(new Headers({ a: 'b' }), new URL('http://x.test/p')),
};

export default {
  fetch(request) {
    const name = new URL(request.url).pathname.slice(1);
    LINES[name]();
    return new Response(name);
  },
};
