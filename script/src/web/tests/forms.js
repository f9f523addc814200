// Forms as bodies, both ways, and what is none: the texts are the reference's.
const listed = async (form) => {
  const list = [];
  for (const [name, value] of form) list.push([name, typeof value === 'string' ? value : [value.name, value.type, await value.text()]]);
  return list;
};
const parse = (body, type = 'multipart/form-data; boundary=B') => new Response(body, { headers: { 'content-type': type } }).formData();
const D = 'Content-Disposition: form-data; ';
const part = (head, content = 'v') => `--B\r\n${head}\r\n\r\n${content}\r\n--B--`;

test('parts of multipart/form-data', async () => {
  const named = part(`${D}name="a"`);
  for (const [body, expected] of [
    [named, [['a', 'v']]],
    [`${named}\r\nafter`, [['a', 'v']]],
    [`before\r\n${named}`, [['a', 'v']]],
    [named.replaceAll('\r\n', '\n'), [['a', 'v']]],
    ['--B--', []],
    [part(`${D}name="a%22b"`), [['a%22b', 'v']]],
    [part(`${D}name="a\\"b"`), [['a"b', 'v']]],
    [part(`${D}name="a;b"; filename="c;d"`), [['a;b', ['c;d', '', 'v']]]],
    [part(`${D}filename="f"; name="a"`), [['a', ['f', '', 'v']]]],
    [part(`${D}name="a"; filename="f"\r\nContent-Type: Text/PLAIN; charset=x`), [['a', ['f', 'Text/PLAIN; charset=x', 'v']]]],
    [part(`${D}name="a"\r\nContent-Type: application/json`), [['a', 'v']]],
    [part(`${D}name="a"; filename=""`, ''), [['a', '']]],
    [part(`${D}name="a"; filename="f"`, ''), [['a', ['f', '', '']]]],
    [part(`${D}name="a"`, '\r\n\r\n'), [['a', '\r\n\r\n']]],
    [part(`${D}name="a"`, '\ufeffx'), [['a', '\ufeffx']]],
    [part(`${D}name="a"\r\n${D}name="b"`), [['a', 'v']]],
    [`--B\r\n${D}name="a"\r\n\r\n1\r\n--B\r\n${D}name="a"\r\n\r\n2\r\n--B--`, [['a', '1'], ['a', '2']]],
  ]) equal(await listed(await parse(body)), expected, JSON.stringify(body));
  equal(await listed(await parse(named, 'Multipart/Form-Data; charset=x; BOUNDARY="B"')), [['a', 'v']]);
});
test('bytes that are no UTF-8', async () => {
  const odd = new Uint8Array([255, 254, 97]);
  equal(await listed(await parse(new Blob([`--B\r\n${D}name="`, odd, '"\r\n\r\n', odd, '\r\n--B--']))), [['\ufffd\ufffda', '\ufffd\ufffda']]);
  equal(await (await parse(new Blob([`--B\r\n${D}name="a"; filename="b"\r\n\r\n`, odd, '\r\n--B--']))).get('a').bytes(), odd);
});
test('what is no multipart/form-data', async () => {
  const named = `--B\r\n${D}name="a"\r\n\r\nv\r\n`;
  for (const [body, expected] of [
    ['', 'No initial boundary string (or you have a truncated message).'],
    [named, 'No subsequent boundary string after multipart message.'],
    [`${named}--B`, 'No subsequent boundary string after multipart message.'],
    [`${named}--B\r\n`, 'No multipart message header termination found.'],
    [`${named}--Bx\r\n`, "Boundary string was not succeeded by CRLF, LF, or '--'."],
    ['--B\r\n\r\nv\r\n--B--', 'No multipart message header termination found.'],
    [part('X: y'), 'No valid Content-Disposition header found in FormData part.'],
    [part(`no colon\r\n${D}name="a"`), 'FormData part had invalid headers.'],
    [part('Content-Disposition: form-data;\r\n name="a"'), 'FormData part had invalid headers.'],
    [part('Content-Disposition: attachment; name="a"'), 'Content-Disposition header for FormData part must have the value "form-data", possibly followed by parameters. Got: "attachment"'],
    ...['x="a"', 'name=a', 'name=""', 'name="a', "name='a'"].map((parameter) => [part(D + parameter), 'Content-Disposition header in FormData part is missing a name.']),
  ]) await rejects(parse(body), `TypeError: ${expected}`);
  for (const type of ['multipart/mixed; boundary=B', 'text/plain', 'junk', 'application/x-www-form-urlencoded x'])
    await rejects(parse('x', type), 'TypeError: Unrecognized Content-Type header value. FormData can only parse the following MIME types: multipart/form-data, application/x-www-form-urlencoded');
  for (const type of ['multipart/form-data', 'multipart/form-data; boundary='])
    await rejects(parse('x', type), "TypeError: No boundary string in Content-Type header. The multipart/form-data MIME type requires a boundary parameter, e.g. 'Content-Type: multipart/form-data; boundary=\"abcd\"'. See RFC 7578, section 4.");
});
test('application/x-www-form-urlencoded', async () => {
  const type = 'application/x-www-form-urlencoded';
  equal(await listed(await parse('a=1&&b&=c&d==e&+=+&a=%C3%A9', `${type}; charset=UTF-8`)), [['a', '1'], ['b', ''], ['', 'c'], ['d', '=e'], [' ', ' '], ['a', 'é']]);
  equal(await listed(await parse('', type)), []);
  await rejects(parse('a=1', `${type}; charset=latin1`), 'TypeError: Non-utf-8 application/x-www-form-urlencoded body.');
});
test('a form as it is written', async () => {
  const form = new FormData();
  form.append('a\r\nb"c', 'x\ny');
  form.append('f', new File(['z'], 'n"\r\n.txt'));
  form.append('g', new Blob(['q'], { type: 'T/U' }));
  form.append('e', '');
  const response = new Response(form);
  const boundary = /^multipart\/form-data; boundary=([0-9a-f]{32})$/.exec(response.headers.get('content-type'))[1];
  equal((await response.text()).replaceAll(boundary, 'B'), [
    '--B', `${D}name="a%0D%0Ab%22c"`, '', 'x\ny',
    '--B', `${D}name="f"; filename="n%22%0D%0A.txt"`, 'Content-Type: application/octet-stream', '', 'z',
    '--B', `${D}name="g"; filename="g"`, 'Content-Type: t/u', '', 'q',
    '--B', `${D}name="e"`, '', '',
    '--B--'].join('\r\n'));
  equal(await listed(await new Response(form).formData()), [['a%0D%0Ab%22c', 'x\ny'], ['f', ['n%22%0D%0A.txt', 'application/octet-stream', 'z']], ['g', ['g', 't/u', 'q']], ['e', '']]);
  await rejects(async () => { const bad = new FormData(); bad.append('a\\', ''); return new Response(bad).text(); }, "TypeError: Name or filename can't end with backslash");
});
test('the methods of FormData', () => {
  const form = new FormData();
  for (const name of ['a', 'b', 'a', 'c']) form.append(name, `${name}${[...form].length}`);
  form.set('a', 'new');
  form.set('z', 5);
  equal([[...form], form.getAll('a'), form.get('none'), form.has('b')], [[['a', 'new'], ['b', 'b1'], ['c', 'c3'], ['z', '5']], ['new'], null, true]);
  const seen = [];
  for (const [name] of form) { seen.push(name); if (name === 'a') form.delete('a'); if (seen.length < 4) form.append(`n${seen.length}`, ''); }
  equal(seen, ['a', 'c', 'z', 'n1', 'n2', 'n3']);
  form.forEach(function (value, name, all) { if (name === 'c') seen.push(value, this.x, all === form); }, { x: 1 });
  equal(seen.slice(6), ['c3', 1, true]);
  for (const method of ['append', 'set']) {
    throws(() => form[method](), `TypeError: Failed to execute '${method}' on 'FormData': parameter 1 is not of type 'string'.`);
    throws(() => form[method]('a'), `TypeError: Failed to execute '${method}' on 'FormData': parameter 2 is not of type 'File or Blob or string'.`);
  }
});
test('what a Blob and a File are given', async () => {
  for (const parts of [null, 5, 'x', {}, new Set(['a']), new Uint8Array(2)]) throws(() => new Blob(parts), "TypeError: Failed to construct 'Blob': constructor parameter 1 is not of type 'Array'.");
  for (const options of [5, 'x']) throws(() => new Blob([], options), "TypeError: Failed to construct 'Blob': constructor parameter 2 is not of type 'Options'.");
  throws(() => new Blob([], { endings: 'native' }), "Error: The 'endings' field on 'Options' is not implemented.");
  throws(() => new File([], 'n', 5), "TypeError: Failed to construct 'File': constructor parameter 3 is not of type 'Options'.");
  throws(() => new File('x', 'n'), "TypeError: Failed to construct 'File': constructor parameter 1 is not of type 'Array'.");
  for (const [type, expected] of [['TEXT/Plain;Charset=UTF-8', 'text/plain;charset=utf-8'], ['a\tb', ''], ['a\x80', ''], [null, 'null'], [undefined, '']]) equal(new Blob([], { type }).type, expected);
  const blob = new Blob(['0123456789'], { type: 'a/b' });
  for (const [args, expected] of [[[], '0123456789'], [[2], '23456789'], [[-3, -1], '78'], [[5, 2], ''], [[-20, 3], '012'], [[2.9, 5.9], '234'], [['2', '5'], '234'], [[2, undefined], '23456789'], [[2, null], ''], [[NaN, 3], '012'], [[0, Infinity], '']]) {
    const slice = blob.slice(...args);
    equal([await slice.text(), slice.type], [expected, ''], show(args));
  }
  throws(() => blob.slice(2 ** 32 + 1), 'TypeError: Value out of range. Must be between -2147483648 and 2147483647 (inclusive).');
  equal([blob.slice(0, 1, 'X/Y').type, await new Blob([new Uint8Array([0xef, 0xbb, 0xbf, 97])]).text()], ['x/y', '\ufeffa']);
  for (const [lastModified, expected] of [[5.7, 5.7], ['7', 7], [NaN, 0], [null, 0], [-5, -5], [undefined, host.now()]]) equal(new File([], 'n', { lastModified }).lastModified, expected);
  const file = new File(['abc'], 'n', { type: 'x/y' });
  equal([file.slice(1) instanceof File, file.slice(1).type, await new Blob([file]).text()], [false, '', 'abc']);
});
test('a Blob is cloned with its type', async () => {
  const blob = new Blob(['ab'], { type: 'x/y' });
  const { one, other } = structuredClone({ one: blob, other: [blob] });
  equal([one instanceof Blob, one !== blob, other[0] === one, one.type, await one.text()], [true, true, true, 'x/y', 'ab']);
  const form = dispatch.serialize(new Blob(['ab'], { type: 'x/y' }));
  for (let length = 0; length < form.length; length++) {
    let thrown = false;
    try { dispatch.deserialize(form.slice(0, length)); } catch { thrown = true; }
    ok(thrown, `cut at ${length}`);
  }
  equal(dispatch.serialize(dispatch.deserialize(form)), form);
  throws(() => dispatch.deserialize(new Uint8Array([1, 28, 0, 0])), 'Error: the value has a part that cannot be');
  throws(() => structuredClone(new File([], 'n')), 'DataCloneError: Could not serialize object of type "File". This type does not support serialization.');
});
