const hex = (data) => [...new Uint8Array(data)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
const message = 'The quick brown fox jumps over the lazy dog';
test('DigestStream: strings, views, buffers', async () => {
  for (const [name, digest] of [['SHA-1', '2fd4e1c67a2d28fced849ee1bb76e7391b93eb12'], [{ name: 'md5' }, '9e107d9d372bb6826bd81d3542a419d6'], ['crc32', '414fa339'], ['crc32c', '22620404'], ['crc64nvme', 'd76c54054954c143']]) {
    const stream = new crypto.DigestStream(name);
    const writer = stream.getWriter();
    writer.write(message.slice(0, 10));
    writer.write(bytes(message.slice(10, 20)));
    writer.write('');
    writer.write(bytes(message.slice(20)).buffer);
    await writer.close();
    equal([hex(await stream.digest), stream.bytesWritten, stream instanceof WritableStream, stream.digest === stream.digest, String(stream)], [digest, 43n, true, true, '[object DigestStream]']);
  }
});
test('DigestStream: a body flows into it', async () => {
  const stream = new crypto.DigestStream('SHA-256');
  await new Response(message).body.pipeTo(stream);
  equal(hex(await stream.digest), 'd7a8fbb307d7809469ca9abcb0082e4f8d5651e46d3cdb762d02d0bf37c9e592');
});
test('DigestStream: what is refused', async () => {
  throws(() => new crypto.DigestStream('zz'), 'NotSupportedError: Unrecognized or unimplemented digest algorithm requested.');
  throws(() => new crypto.DigestStream(), "TypeError: Failed to construct 'DigestStream': constructor parameter 1 is not of type 'string or HashAlgorithm'.");
  const stream = new crypto.DigestStream('MD5');
  const writer = stream.getWriter();
  writer.closed.catch(() => {});
  await rejects(writer.write(5), 'TypeError: DigestStream is a byte stream but received an object of non-ArrayBuffer/ArrayBufferView/string type on its writable side.');
  const other = new crypto.DigestStream('MD5');
  await other.abort(new Error('mine'));
  await rejects(other.digest, 'Error: mine');
  equal([typeof globalThis.DigestStream, Object.keys(Object.getOwnPropertyDescriptors(Object.getPrototypeOf(crypto)))], ['undefined', ['constructor', 'subtle', 'getRandomValues', 'randomUUID', 'DigestStream', Symbol.toStringTag].slice(0, 5)]);
});
