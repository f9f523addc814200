// Answers of other implementations over the same keys and data: what is calculated here must come to the same.
const known = {
  "digest SHA-1": "2fd4e1c67a2d28fced849ee1bb76e7391b93eb12",
  "hmac SHA-1": "2d0f4cf304f8b20d41e9c37465f697f207e84661",
  "hkdf SHA-1": "823a59cd25eb7eb166c6fd3fd6c916f2a49695d44bf9a48cc869695ee365fa3b35b4bb82ba5c76d251c8",
  "pbkdf2 SHA-1": "6e88be8bad7eae9d9e10aa061224034fed48d03fcbad968b56006784539d5214ce970d912ec2049b04231d47c2eb88506945",
  "digest SHA-256": "d7a8fbb307d7809469ca9abcb0082e4f8d5651e46d3cdb762d02d0bf37c9e592",
  "hmac SHA-256": "28e74a432bce0911d9d023ec95420dd77a151bbee3b9513027ca095fc0c80852",
  "hkdf SHA-256": "17549b357089ac14572d4466381640cc27d6e2d88e06c83266de68c60ad55bfa1a68a49ea9c028819fce",
  "pbkdf2 SHA-256": "632c2812e46d4604102ba7618e9d6d7d2f8128f6266b4a03264d2a0460b7dcb388b3b1131f741bcbeb02541c8c2e97bd8bed",
  "digest SHA-384": "ca737f1014a48f4c0b6dd43cb177b0afd9e5169367544c494011e3317dbf9a509cb1e5dc1e85a941bbee3d7f2afbc9b1",
  "hmac SHA-384": "841b4ed9ac52dd5edbf6513b1e565f30ecc9043408e22c9c86d4f29a58651e1ab5226c09d52c0196f182808af21330e1",
  "hkdf SHA-384": "3013dab1c29108038a86a8f75fc96317cdee1fed005487310c8575e9f2c1e0d07d047ab84d0e8332e13f",
  "pbkdf2 SHA-384": "3bd37e2236941d4a77b1b5b714c6f913fabb6b0841a6d7d8656b99d611e900fe06edb93b5b809efaa9678b635ce513e0f7d9",
  "digest SHA-512": "07e547d9586f6a73f73fbac0435ed76951218fb7d0c8d788a309d785436bbb642e93a252a954f23912547d1e8a3b5ed6e1bfd7097821233fa0538f3db854fee6",
  "hmac SHA-512": "d0396933ebb83fa57a7c9c98ac50e8398b640f79a86106c91d18d9ae66237c1f10ad408d057f938dc552d0b9877e540dde52a9950d7b6361d737743490072052",
  "hkdf SHA-512": "8a642d880d39665d7d6957b7c15a53e681476094a9fc9d07e4c45e56f9a9ddf6a13fc9944c6e251bc1b1",
  "pbkdf2 SHA-512": "afe6c5530785b6cc6b1c6453384731bd5ee432ee549fd42fb6695779ad8a1c5bf59de69c48f774efc4007d5298f9033c0241",
  "gcm 16": "6f25c4c9c38233fbaf79a8e35ea61fae7dcd62e39124daae1de458f80c111457245d59c61384c9dc258d953f6b7e0e8b1c73ac5369a2de1127e2f3",
  "cbc 16": "c39fa68082a76907cb5fdc6cad1ea446ca9b040ce9faf502ab6f8753d66fc9a63e613e54aca812fd76e34d09e6af6770",
  "ctr 16": "3b62fadfbaedb62c1f05954f66ccb3db464d5470888e70a659f670842f7d894660c110dd06997c7f91d738",
  "ctr wrap 16": "414da614c200f114d258cb11f3fe1d5b1dc6ddc0421f55588c08e2ff6c5511111b98039cb5f79cbf62bb6a",
  "kw 16": "26fbdb59d8dcc858cb8a24cbccc843c1a846684dd057a2fd4f2e1dc28aa9d5b5329fc3cdf5084663",
  "gcm 24": "95598a64bac51278997c1ec7de265cacf2341f17af9ce75b9e82a83f23bd0f17a00f7d21afd112fe070ad520f8490099a390c3423fd5b5a0e5504e",
  "cbc 24": "a97a0c49d570c52a94f179a955362e0f4354d17bf3b83761ac61e56fd3f1ffc6e5aa2f5ead9dec80e457a9b641b2c2e5",
  "ctr 24": "9b5263e359423bcd3ee4494cdbace553655dce85c777190169e8aa984faef2ac9e542e86f1cc6ff9105c6c",
  "ctr wrap 24": "08e8c774c39753126d381a3b73d79b370e262c886b2d25ba809fdb5d92b409d5b5cf7b7c4523ba8c4135c1",
  "kw 24": "b63a58b4902602393e112a562aa77d051f0769177df9d038f3ea8a050e7353d33b17fbe91f72b638",
  "gcm 32": "255864b7b9a80868640bd0330bef99ad4ff8c5b514ea170cbe6812cb39a7124feecd928c26ff8001533c681f9e60ca2fd56c75a097b69a265c5953",
  "cbc 32": "125560e834d4f06263e9e4feb77a8b2b502a682cbacab4a0b9e838e06623a4b90d5f692145fbb609d2255053551f4639",
  "ctr 32": "b902655c393491215249ba4fe9a1444d511db75b4937cb401124d808b2f9254cd291b51f9a3f377f2f381e",
  "ctr wrap 32": "c629f6c1380df3a83677cb12c499cb831b1bd1c684f63c1db4a96c88b7abffb20c81f342630c9f27f1e4a5",
  "kw 32": "4b997cfdeebc3ad59d9358ffca1b10b0c3ae97377eb8d6655f5c347471923fc2d2df4a88e508c3b9",
  "gcm long 16": "1287679bde4f6c2f6f4af8d07de632bf9dadd5e8d17bbfca8660ffb9a38eb90c8160bc2646f945f702bc1bd5892fe1b41bf91818cdeb61",
  "gcm short 16": "161503628aa1b76203c7df921e1654b28312f4aae1396e76d6185630dd953ca252c46ac66e74c43317c9479d6ba90e",
  "gcm long 24": "185006d178b80cf53e165150d2a562dbf70b1543d9c02d21e6a53c97c7218eea99a9d827a8a95535584b60ca11feb05440ba703fcb50f3",
  "gcm short 24": "4ec5bf1602057d9beffeeba013ea55ed286d2d7e4c443b6e9d5c42bb47aac4f3ae6c1389ba495d3be751e643123875",
  "gcm long 32": "bce8f237215541816a7a4e4256c5f46a0cb118d77917c427b6a10d37d8d3ff4c89c14e92f2c99c22debf237673d65c878d91b0465d9d58",
  "gcm short 32": "6a0472bfb8efae0ab0b42985eeabe3638f3eda010634d758155b2c0747fc190f6df5216979d0a250dcc1fe71418c05",
  "digest MD5": "9e107d9d372bb6826bd81d3542a419d6",
  "hmac MD5": "c39516882f2be1245f58eecf2861f591",
};
const subtle = crypto.subtle;
const message = bytes('The quick brown fox jumps over the lazy dog');
const hashes = ['SHA-1', 'SHA-256', 'SHA-384', 'SHA-512'];

test('digests', async () => {
  for (const hash of [...hashes, 'MD5']) equal(hex(await subtle.digest(hash, message)), known[`digest ${hash}`], hash);
  equal(hex(await subtle.digest({ name: 'sha-256' }, new DataView(message.buffer, 0, 0))), 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
});
test('HMAC', async () => {
  for (const hash of [...hashes, 'MD5']) {
    const key = await subtle.importKey('raw', seq(20), { name: 'HMAC', hash }, false, ['sign', 'verify']);
    const code = await subtle.sign('HMAC', key, message);
    equal(hex(code), known[`hmac ${hash}`], hash);
    const wrong = new Uint8Array(code.slice());
    wrong[3] ^= 1;
    equal([await subtle.verify('hmac', key, code, message), await subtle.verify('HMAC', key, wrong, message), await subtle.verify('HMAC', key, code.slice(1), message)], [true, false, false], hash);
  }
});
test('HKDF and PBKDF2', async () => {
  const hkdf = await subtle.importKey('raw', seq(22), 'HKDF', false, ['deriveBits', 'deriveKey']);
  const pbkdf2 = await subtle.importKey('raw', bytes('password'), 'PBKDF2', false, ['deriveBits', 'deriveKey']);
  for (const hash of hashes) {
    equal(hex(await subtle.deriveBits({ name: 'HKDF', hash, salt: seq(13), info: seq(10, 240) }, hkdf, 42 * 8)), known[`hkdf ${hash}`], hash);
    equal(hex(await subtle.deriveBits({ name: 'PBKDF2', hash, salt: bytes('salt'), iterations: 1000 }, pbkdf2, 400)), known[`pbkdf2 ${hash}`], hash);
  }
  const derived = await subtle.deriveKey({ name: 'HKDF', hash: 'SHA-256', salt: seq(13), info: seq(10, 240) }, hkdf, { name: 'AES-GCM', length: 256 }, true, ['encrypt']);
  equal(hex(await subtle.exportKey('raw', derived)), known['hkdf SHA-256'].slice(0, 64));
  const code = await subtle.deriveKey({ name: 'PBKDF2', hash: 'SHA-256', salt: bytes('salt'), iterations: 1000 }, pbkdf2, { name: 'HMAC', hash: 'SHA-1', length: 256 }, true, ['sign']);
  equal([hex(await subtle.exportKey('raw', code)), code.algorithm], [known['pbkdf2 SHA-256'].slice(0, 64), { name: 'HMAC', hash: { name: 'SHA-1' }, length: 256 }]);
});
const ciphers = [
  ['gcm', { name: 'AES-GCM', iv: seq(12), additionalData: seq(20, 5) }],
  ['gcm long', { name: 'AES-GCM', iv: seq(60), tagLength: 96 }],
  ['gcm short', { name: 'AES-GCM', iv: seq(1), tagLength: 32 }],
  ['cbc', { name: 'AES-CBC', iv: seq(16) }],
  ['ctr', { name: 'AES-CTR', counter: seq(16), length: 64 }],
  ['ctr wrap', { name: 'AES-CTR', counter: new Uint8Array(16).fill(255), length: 7 }],
];
test('AES', async () => {
  for (const size of [16, 24, 32])
    for (const [name, algorithm] of ciphers) {
      const key = await subtle.importKey('raw', seq(size, 1), algorithm.name, false, ['encrypt', 'decrypt']);
      const sealed = await subtle.encrypt(algorithm, key, message);
      equal([hex(sealed), text(await subtle.decrypt(algorithm, key, sealed))], [known[`${name} ${size}`], text(message)], `${name} ${size}`);
    }
});
test('what was changed is no ciphertext any more', async () => {
  const key = await subtle.importKey('raw', seq(16), 'AES-GCM', false, ['encrypt', 'decrypt']);
  const algorithm = { name: 'AES-GCM', iv: seq(12), additionalData: seq(3) };
  const sealed = new Uint8Array(await subtle.encrypt(algorithm, key, message));
  for (const at of [0, message.length - 1, message.length, sealed.length - 1]) {
    const changed = sealed.slice();
    changed[at] ^= 128;
    ok((await rejects(subtle.decrypt(algorithm, key, changed), `OperationError: Decryption failed. This could be due to a ciphertext authentication failure, bad padding, incorrect CryptoKey, or another algorithm-specific reason. Input length was 43, output length expected to be 43 for AES-GCM`)) instanceof DOMException);
  }
  for (const other of [{ ...algorithm, iv: seq(12, 1) }, { ...algorithm, additionalData: seq(4) }, { ...algorithm, tagLength: 96 }])
    await subtle.decrypt(other, key, sealed).then(() => ok(false), () => {});
});
test('a counter that comes round', async () => {
  const key = await subtle.importKey('raw', seq(16), 'AES-CTR', false, ['encrypt']);
  const counter = new Uint8Array(16).fill(7);
  const whole = new Uint8Array(await subtle.encrypt({ name: 'AES-CTR', counter, length: 4 }, key, new Uint8Array(256)));
  equal(new Set(Array.from({ length: 16 }, (_, i) => hex(whole.slice(16 * i, 16 * i + 16)))).size, 16);
  counter[15] = 0;
  equal(hex(whole.slice(9 * 16, 10 * 16)), hex(await subtle.encrypt({ name: 'AES-CTR', counter, length: 4 }, key, new Uint8Array(16))));
  await rejects(subtle.encrypt({ name: 'AES-CTR', counter, length: 4 }, key, new Uint8Array(257)), 'OperationError: Counter block values will repeat.');
});
test('AES-KW', async () => {
  for (const size of [16, 24, 32]) {
    const outer = await subtle.importKey('raw', seq(size, 1), 'AES-KW', false, ['wrapKey', 'unwrapKey']);
    const inner = await subtle.importKey('raw', seq(32, 9), { name: 'HMAC', hash: 'SHA-256' }, true, ['sign']);
    const wrapped = await subtle.wrapKey('raw', inner, outer, 'AES-KW');
    const back = await subtle.unwrapKey('raw', wrapped, outer, 'AES-KW', { name: 'HMAC', hash: 'SHA-512' }, true, ['verify']);
    equal([hex(wrapped), hex(await subtle.exportKey('raw', back)), back.algorithm.hash.name, back.usages], [known[`kw ${size}`], hex(seq(32, 9)), 'SHA-512', ['verify']]);
    new Uint8Array(wrapped)[5] ^= 1;
    await rejects(subtle.unwrapKey('raw', wrapped, outer, 'AES-KW', { name: 'HMAC', hash: 'SHA-512' }, true, ['verify']), 'OperationError: AES-KW key unwrapping failed.');
  }
});
test('keys that are made', async () => {
  const seen = new Set();
  for (const length of [128, 192, 256]) {
    const key = await subtle.generateKey({ name: 'AES-CBC', length }, true, ['decrypt', 'encrypt', 'decrypt']);
    const raw = hex(await subtle.exportKey('raw', key));
    equal([raw.length * 4, key.type, key.usages, key.algorithm, seen.has(raw)], [length, 'secret', ['encrypt', 'decrypt'], { name: 'AES-CBC', length }, false]);
    seen.add(raw);
  }
  const hmac = await subtle.generateKey({ name: 'HMAC', hash: 'SHA-512' }, false, ['sign']);
  equal([hmac.algorithm, hmac.extractable], [{ name: 'HMAC', hash: { name: 'SHA-512' }, length: 1024 }, false]);
  const short = new Uint8Array(await subtle.exportKey('raw', await subtle.generateKey({ name: 'HMAC', hash: 'SHA-1', length: 9 }, true, ['sign'])));
  equal([short.length, short[1] & 127], [2, 0]);
});
test('what the caller changes afterwards changes nothing', async () => {
  const raw = seq(16);
  const key = await subtle.importKey('raw', raw, 'AES-CBC', true, ['encrypt']);
  raw.fill(0);
  key.algorithm.name = 'AES-GCM';
  key.usages.push('decrypt');
  equal([key.algorithm === key.algorithm, hex(await subtle.exportKey('raw', key))], [true, hex(seq(16))]);
  await subtle.encrypt({ name: 'AES-CBC', iv: seq(16) }, key, raw);
  await rejects(subtle.decrypt({ name: 'AES-CBC', iv: seq(16) }, key, raw), 'InvalidAccessError: Requested key usage "decrypt" does not match any usage listed in this CryptoKey.');
});
test('timingSafeEqual', () => {
  equal([subtle.timingSafeEqual(seq(3), seq(3)), subtle.timingSafeEqual(seq(3), seq(3, 1)), subtle.timingSafeEqual(new Uint16Array([1, 2]), new Uint8Array([1, 0, 2, 0]).buffer)], [true, false, true]);
  throws(() => subtle.timingSafeEqual(seq(3), seq(2)), 'TypeError: Input buffers must have the same byte length.');
  throws(() => subtle.timingSafeEqual('x', seq(2)), "TypeError: Failed to execute 'timingSafeEqual' on 'SubtleCrypto': parameter 1 is not of type 'BufferSource'.");
});
