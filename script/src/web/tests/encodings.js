test('TextEncoder', () => {
  const encoder = new TextEncoder();
  equal([encoder.encoding, encoder.encode('é\ud800'), encoder.encodeInto('aé€', new Uint8Array(3)), encoder.encode(), encoder.encode(undefined), encoder.encode(null)],
    ['utf-8', new Uint8Array([195, 169, 239, 191, 189]), { read: 2, written: 3 }, new Uint8Array(0), new Uint8Array(0), new Uint8Array([110, 117, 108, 108])]);
  equal(encoder.encodeInto('😀', new Uint8Array(3)), { read: 0, written: 0 });
  equal(encoder.encodeInto('😀', new Uint8Array(4)), { read: 2, written: 4 });
});
test('TextDecoder', () => {
  const decode = (list, label, options) => new TextDecoder(label, options).decode(new Uint8Array(list));
  equal(decode([0xef, 0xbb, 0xbf, 97]), 'a');
  equal(decode([0xef, 0xbb, 0xbf, 97], 'utf-8', { ignoreBOM: true }), '\ufeffa');
  equal(decode([255, 97]), '\ufffda');
  equal(throws(() => decode([255], 'utf-8', { fatal: true }), 'TypeError: Failed to decode input.') instanceof TypeError, true);
  throws(() => new TextDecoder('nope'), 'RangeError: "nope" is not a valid encoding.');
  equal([new TextDecoder('latin1').encoding, decode([0x80], 'latin1'), decode([0xd0], 'koi8-r'), decode([97, 0], 'utf-16le'), decode([0, 97], 'utf-16be'), decode([0x82, 0xa0], 'sjis')], ['windows-1252', '€', 'п', 'a', 'a', 'あ']);
  const d = new TextDecoder('UTF8', { fatal: true });
  equal([d.encoding, d.fatal, d.ignoreBOM], ['utf-8', true, false]);
  throws(() => new TextDecoder().decode('x'), "TypeError: Failed to execute 'decode' on 'TextDecoder': parameter 1 is not of type 'Array'.");
  equal(new TextDecoder().decode(new Uint16Array([0x6261]).buffer), 'ab');
  equal(new TextDecoder().decode(new DataView(new Uint8Array([97, 98, 99]).buffer, 1, 1)), 'b');
  equal(new TextDecoder().decode(), '');
  throws(() => new TextDecoder('utf-8', 5), "TypeError: Failed to construct 'TextDecoder': constructor parameter 2 is not of type 'ConstructorOptions'.");
  throws(() => new TextDecoder().decode(new Uint8Array(1), 5), "TypeError: Failed to execute 'decode' on 'TextDecoder': parameter 2 is not of type 'DecodeOptions'.");
});
test('labels', () => {
  // Names of the standard, some of their labels, and a byte that tells them apart.
  for (const [name, labels, byte, expected] of [
    ['utf-8', ['unicode-1-1-utf-8', 'x-unicode20utf8', ' UTF8\n'], 97, 'a'], ['ibm866', ['866', 'csibm866'], 0x80, 'А'], ['iso-8859-2', ['l2', 'iso_8859-2:1987'], 0xa1, 'Ą'],
    ['iso-8859-7', ['greek', 'sun_eu_greek'], 0xe1, 'α'], ['iso-8859-8-i', ['logical', 'csiso88598i'], 0xe0, 'א'], ['iso-8859-8', ['visual'], 0xe0, 'א'], ['iso-8859-15', ['l9'], 0xa4, '€'],
    ['koi8-u', ['koi8-ru'], 0xa4, 'є'], ['macintosh', ['x-mac-roman'], 0x80, 'Ä'], ['windows-874', ['tis-620'], 0xa1, 'ก'], ['windows-1252', ['ascii', 'latin1', 'iso-8859-1'], 0x80, '€'], ['windows-1254', ['latin5'], 0xd0, 'Ğ'],
    ['x-mac-cyrillic', ['x-mac-ukrainian'], 0x80, 'А'], ['gbk', ['gb2312', 'chinese'], 0x80, '€'], ['big5', ['cn-big5'], 97, 'a'], ['euc-jp', ['x-euc-jp'], 97, 'a'], ['shift_jis', ['ms932', 'x-sjis'], 0xb1, 'ｱ'], ['euc-kr', ['windows-949'], 97, 'a'],
    ['utf-16le', ['utf-16', 'ucs-2', 'csunicode'], 97, '\ufffd'], ['utf-16be', ['unicodefffe'], 97, '\ufffd'], ['x-user-defined', [], 0x80, '\uf780'],
  ])
    for (const label of [name, ...labels]) equal([new TextDecoder(label).encoding, new TextDecoder(label).decode(new Uint8Array([byte]))], [name, expected], label);
  for (const label of ['', 'replacement', 'iso-2022-kr', 'hz-gb-2312', 'utf-7', 'utf-8\0', 'latin1\v']) throws(() => new TextDecoder(label), `RangeError: "${label}" is not a valid encoding.`);
});
test('encodings of more than one byte, in parts', () => {
  for (const [label, list, expected, parts] of [
    ['gb18030', [0x81, 0x30, 0x81, 0x30], '\x80', ['', '', '', '\x80', '']], ['gb18030', [0x81, 0x30], '\ufffd', ['', '', '\ufffd']], ['shift_jis', [0x82, 0xa0], 'あ', ['', 'あ', '']],
    ['iso-2022-jp', [0x1b, 0x24, 0x42, 0x24, 0x22, 0x1b, 0x28, 0x42], 'あ', ['', '', '', '', 'あ', '', '', '', '']], ['utf-16le', [0x3d, 0xd8, 0, 0xde], '😀', ['', '', '', '😀', '']], ['euc-jp', [0x8f, 0xb0, 0xa1], '丂', ['', '', '丂', '']],
  ]) {
    const decoder = new TextDecoder(label);
    equal([decoder.decode(new Uint8Array(list)), [...list.map((byte) => decoder.decode(new Uint8Array([byte]), { stream: true })), decoder.decode()]], [expected, parts], label);
  }
  for (const label of ['gb18030', 'shift_jis', 'euc-kr', 'utf-16le', 'iso-2022-jp']) throws(() => new TextDecoder(label, { fatal: true }).decode(new Uint8Array([0x81])), 'TypeError: Failed to decode input.');
});
test('TextDecoder over parts', () => {
  const decoder = new TextDecoder();
  equal([decoder.decode(new Uint8Array([0xe2, 0x82]), { stream: true }), decoder.decode(new Uint8Array([0xac]), { stream: true }), decoder.decode()], ['', '€', '']);
  equal([decoder.decode(new Uint8Array([0xe2]), { stream: true }), decoder.decode()], ['', '\ufffd']);
  const strict = new TextDecoder('utf-8', { fatal: true });
  strict.decode(new Uint8Array([0xe2]), { stream: true });
  throws(() => strict.decode(), 'TypeError: Failed to decode input.');
  equal(strict.decode(new Uint8Array([97])), 'a');
  const marks = new TextDecoder();
  equal([marks.decode(new Uint8Array([0xef, 0xbb]), { stream: true }), marks.decode(new Uint8Array([0xbf, 97]), { stream: true }), marks.decode()], ['', 'a', '']);
});
test('base64', () => {
  equal([atob(' aGk= '), btoa('hi\xff'), atob(btoa('\0\xff'))], ['hi', 'aGn/', '\0\xff']);
  equal(throws(() => atob('a'), "InvalidCharacterError: atob() called with invalid base64-encoded data. (Only whitespace, '+', '/', alphanumeric ASCII, and up to two terminal '=' signs when the input data length is divisible by 4 are allowed.)").code, 5);
  throws(() => btoa('€'), 'InvalidCharacterError: btoa() can only operate on characters in the Latin1 (ISO/IEC 8859-1) range.');
});
