test('Blob', async () => {
  const blob = new Blob(['a', new Uint8Array([98]), new Blob(['c']), {}, 1, null], { type: 'A/B' });
  equal([blob.size, blob.type, await blob.text(), await new Blob(['ab']).bytes()], [3 + 15 + 1 + 4, 'a/b', 'abc[object Object]1null', new Uint8Array([97, 98])]);
  equal([await new Blob(['abcdef']).slice(1, -1, 't').text(), new Blob(['abc']).slice(-2).size, new Blob(['abc']).slice(2, 1).size, new Blob([], { type: 'é' }).type], ['bcde', 2, 0, '']);
  equal(new Uint8Array(await new Blob(['ab']).slice(1).arrayBuffer()), new Uint8Array([98]));
  for (const bad of ['x', 5]) throws(() => new Blob(bad), "TypeError: Failed to construct 'Blob': constructor parameter 1 is not of type 'Array'.");
});
test('bytes of a blob stay', async () => {
  const source = new Uint8Array([1]);
  const blob = new Blob([source]);
  source[0] = 2;
  (await blob.bytes())[0] = 3;
  equal(await blob.bytes(), new Uint8Array([1]));
});
test('File', () => {
  const file = new File(['abc'], 'n', { type: 'A/B', lastModified: 5 });
  equal([file.size, file.type, file.name, file.lastModified, file instanceof Blob, new File([], 'x').lastModified], [3, 'a/b', 'n', 5, true, host.now()]);
  throws(() => new File([]), "TypeError: Failed to construct 'File': constructor parameter 2 is not of type 'string'.");
  console.log(file);
  equal(host.lines[0], "log: File { name: 'n', lastModified: 5, size: 3, type: 'a/b' }");
});
test('FormData', () => {
  const form = new FormData();
  form.append('a', 1);
  form.append('a', '2');
  form.append('b', new Blob(['x'], { type: 't/s' }));
  form.append('c', new File(['x'], 'f'), 'g');
  equal([form.getAll('a'), form.get('b').name, form.get('b').type, form.get('b') instanceof File, form.get('c').name, form.get('none'), form.has('a')], [['1', '2'], 'b', 't/s', true, 'g', null, true]);
  form.set('a', '3');
  form.delete('b');
  equal([...form].map(([name]) => name), ['a', 'c']);
  throws(() => form.append('a'), "TypeError: Failed to execute 'append' on 'FormData': parameter 2 is not of type 'File or Blob or string'.");
});
