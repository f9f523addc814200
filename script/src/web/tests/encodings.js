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
