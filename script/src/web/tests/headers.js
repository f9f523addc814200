test('sorted, lower case, cookies apart', () => {
  const h = new Headers([['b', '1'], ['A', '2'], ['set-cookie', 'x'], ['Set-Cookie', 'y'], ['a', '3']]);
  equal([[...h], h.get('set-cookie'), h.getSetCookie(), h.getAll('set-cookie'), h.get('none'), h.has('A')], [[['a', '2, 3'], ['b', '1'], ['set-cookie', 'x'], ['set-cookie', 'y']], 'x, y', ['x', 'y'], ['x', 'y'], null, true]);
  throws(() => h.getAll('a'), 'TypeError: getAll() can only be used with the header name "Set-Cookie".');
  equal([[...h.keys()], [...h.values()]], [['a', 'b', 'set-cookie', 'set-cookie'], ['2, 3', '1', 'x', 'y']]);
});
test('set, append, delete', () => {
  const h = new Headers({ a: 1, b: null, c: undefined });
  h.append('a', '2');
  h.set('B', 'x');
  h.delete('C');
  h.append('Set-Cookie', '1');
  h.append('Set-Cookie', '2');
  h.set('set-cookie', '3');
  equal([...h], [['a', '1, 2'], ['b', 'x'], ['set-cookie', '3']]);
});
test('names and values', () => {
  throws(() => new Headers({ 'a b': 'c' }), 'TypeError: Invalid header name.');
  throws(() => new Headers().append('', 'x'), 'TypeError: Invalid header name.');
  for (const value of ['c\n d', 'c\0d', 'a\rb']) throws(() => new Headers({ a: value }), 'TypeError: Invalid header value.');
  equal([new Headers({ a: ' \tc d\n' }).get('a'), new Headers({ a: 'ü€' }).get('a'), new Headers({ a: '' }).get('a')], ['c d', 'ü€', '']);
});
test('inits', () => {
  const pair = 'TypeError: To initialize a Headers object from a sequence, each inner sequence must have exactly two elements.';
  throws(() => new Headers([['a']]), pair);
  throws(() => new Headers([['a', 'b', 'c']]), pair);
  for (const bad of ['x', null, 1]) throws(() => new Headers(bad), "TypeError: Failed to construct 'Headers': constructor parameter 1 is not of type 'Headers or Sequence or object'.");
  equal([[...new Headers(undefined)], [...new Headers(new Map([['a', 'b']]))], [...new Headers(new Headers({ a: 'b' }))]], [[], [['a', 'b']], [['a', 'b']]]);
  throws(() => new Headers().get(), "TypeError: Failed to execute 'get' on 'Headers': parameter 1 is not of type 'string'.");
  throws(() => new Headers().append('a'), "TypeError: Failed to execute 'append' on 'Headers': parameter 2 is not of type 'string'.");
  throws(() => Headers.prototype.get.call({}, 'a'), 'TypeError: Illegal invocation: function called with incorrect `this` reference.');
});
test('iteration', () => {
  const h = new Headers({ a: 1, c: 3 });
  const seen = [];
  for (const [name] of h) { seen.push(name); if (name === 'a') { h.set('b', 2); h.delete('c'); } }
  h.set('c', 3);
  const keys = h.keys();
  h.forEach((value, name) => { seen.push(name); if (name === 'a') h.delete('b'); });
  equal([seen, [...keys], [...h.keys()]], [['a', 'c', 'a', 'b', 'c'], ['a', 'b', 'c'], ['a', 'c']]);
  const out = [];
  h.forEach(function (value, name, all) { out.push(value, name, all === h, this); }, 7);
  equal(out.slice(0, 4), ['1', 'a', true, 7]);
  const iterator = h.entries();
  equal([Object.prototype.toString.call(iterator), iterator[Symbol.iterator]() === iterator, iterator.next()], ['[object Headers Iterator]', true, { done: false, value: ['a', '1'] }]);
});
test('how they look', () => {
  console.log(new Headers({ a: 'b', c: 'd' }));
  equal(host.lines[0], "log: Headers(2) { 'a' => 'b', 'c' => 'd', [immutable]: false }");
});
