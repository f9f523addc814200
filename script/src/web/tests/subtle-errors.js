// What is refused, and with which words: the reference's.
const subtle = crypto.subtle;
const some = (n) => new Uint8Array(n);
const raw = (algorithm, usages, size = 16, extractable = true) => subtle.importKey('raw', some(size), algorithm, extractable, usages);
const jwk = (key, algorithm, usages, extractable = true) => subtle.importKey('jwk', key, algorithm, extractable, usages);
const each = async (cases) => { for (const [run, expected] of cases) await rejects(run, expected); };
const hmac = { name: 'HMAC', hash: 'SHA-256' };
const p256 = { name: 'ECDSA', namedCurve: 'P-256' };
const octets = { kty: 'oct', k: 'AAAAAAAAAAAAAAAAAAAAAA' };

test('the classes', async () => {
  const key = await raw('AES-GCM', ['decrypt', 'encrypt'], 16, false);
  equal([key.type, key.extractable, key.algorithm, key.usages, String(key), String(subtle), String(crypto)], ['secret', false, { name: 'AES-GCM', length: 128 }, ['encrypt', 'decrypt'], '[object CryptoKey]', '[object SubtleCrypto]', '[object Crypto]']);
  equal([crypto.subtle === subtle, subtle instanceof SubtleCrypto, key instanceof CryptoKey], [true, true, true]);
  for (const Class of [CryptoKey, SubtleCrypto]) throws(() => new Class(), 'TypeError: Illegal constructor');
  await rejects(subtle.digest.call({}, 'SHA-1', some(1)), 'TypeError: Illegal invocation: function called with incorrect `this` reference.');
  throws(() => Object.getOwnPropertyDescriptor(CryptoKey.prototype, 'type').get.call({}), 'TypeError: Illegal invocation: function called with incorrect `this` reference.');
  throws(() => structuredClone(key), 'DataCloneError: Could not serialize object of type "CryptoKey". This type does not support serialization.');
  console.log(key);
  equal(host.lines, ["log: CryptoKey {\n  usages: [ 'encrypt', 'decrypt' ],\n  algorithm: { name: 'AES-GCM', length: 128 },\n  extractable: false,\n  type: 'secret'\n}"]);
});
test('what is given', async () => {
  const key = await raw('AES-GCM', ['encrypt']);
  const iv = some(12);
  await each([
    [() => subtle.digest(), "TypeError: Failed to execute 'digest' on 'SubtleCrypto': parameter 1 is not of type 'string or HashAlgorithm'."],
    [() => subtle.digest('SHA-3', some(1)), 'NotSupportedError: Unrecognized or unimplemented digest algorithm requested.'],
    [() => subtle.digest('SHA-1', 'x'), "TypeError: Failed to execute 'digest' on 'SubtleCrypto': parameter 2 is not of type 'BufferSource'."],
    [() => subtle.encrypt('AES-GCM', key, some(1)), 'TypeError: Missing field "iv" in "algorithm".'],
    [() => subtle.encrypt({ name: 'AES-GCM', iv: 'x' }, key, some(1)), "TypeError: Incorrect type for the 'iv' field on 'EncryptAlgorithm': the provided value is not of type 'BufferSource'."],
    [() => subtle.encrypt({ name: 'AES-GCM', iv, tagLength: 33 }, key, some(1)), 'OperationError: Invalid AES-GCM tag length 33.'],
    [() => subtle.encrypt({ name: 'AES-GCM', iv }, key), "TypeError: Failed to execute 'encrypt' on 'SubtleCrypto': parameter 3 is not of type 'BufferSource'."],
    [() => subtle.encrypt({ name: 'AES-GCM', iv }, {}, some(1)), "TypeError: Failed to execute 'encrypt' on 'SubtleCrypto': parameter 2 is not of type 'CryptoKey'."],
    [() => subtle.encrypt({ name: 'AES-CBC', iv }, key, some(1)), 'InvalidAccessError: Requested algorithm "AES-CBC" does not match this CryptoKey\'s algorithm "AES-GCM".'],
    [() => subtle.decrypt({ name: 'AES-GCM', iv }, key, some(20)), 'InvalidAccessError: Requested key usage "decrypt" does not match any usage listed in this CryptoKey.'],
    [async () => subtle.decrypt({ name: 'AES-GCM', iv }, await raw('AES-GCM', ['decrypt']), some(3)), 'OperationError: Ciphertext length of 24 bits must be greater than or equal to the size of the AES-GCM tag length of 128 bits.'],
    [async () => subtle.encrypt({ name: 'AES-CBC', iv: some(5) }, await raw('AES-CBC', ['encrypt']), some(3)), 'OperationError: AES-CBC IV must be 16 bytes long (provided 5 bytes).'],
    [async () => subtle.encrypt({ name: 'AES-CTR', counter: some(16), length: 129 }, await raw('AES-CTR', ['encrypt']), some(3)), 'OperationError: Invalid counter of 129 bits length provided.'],
    [async () => subtle.encrypt({ name: 'AES-CTR', counter: some(5), length: 64 }, await raw('AES-CTR', ['encrypt']), some(3)), 'OperationError: Counter must have length of 16 bytes (provided 5).'],
  ]);
});
test('import and export of secrets', async () => {
  await each([
    [() => subtle.importKey('x', some(16), 'AES-GCM', true, ['encrypt']), 'NotSupportedError: Unrecognized key import format "x".'],
    [() => subtle.importKey('raw', {}, 'AES-GCM', true, ['encrypt']), 'TypeError: Import data provided for buffer-based import formats must be a buffer source.'],
    [() => subtle.importKey('raw', 'x', 'AES-GCM', true, ['encrypt']), "TypeError: Failed to execute 'importKey' on 'SubtleCrypto': parameter 2 is not of type 'BufferSource or JsonWebKey'."],
    [() => jwk(some(16), 'AES-GCM', ['encrypt']), 'TypeError: Import data provided for "jwk" import format must be a JsonWebKey.'],
    [() => raw('AES-GCM', 'encrypt'), "TypeError: Failed to execute 'importKey' on 'SubtleCrypto': parameter 5 is not of type 'Array'."],
    [() => raw('AES-GCM', ['sign']), 'SyntaxError: Attempt to import secret AES-GCM key with invalid usage "sign".'],
    [() => raw('AES-GCM', []), 'SyntaxError: Secret/private CryptoKeys must have at least one usage.'],
    [() => raw('AES-GCM', ['encrypt'], 15), 'DataError: Imported AES key length must be 128, 192, or 256 bits but provided 120.'],
    [() => raw('AES-XYZ', ['encrypt']), 'NotSupportedError: Unrecognized key import algorithm "AES-XYZ" requested.'],
    [() => raw('HMAC', ['sign']), 'TypeError: Missing field "hash" in "algorithm".'],
    [() => raw({ ...hmac, length: 64 }, ['sign']), 'DataError: Imported HMAC key length (64) must be a non-zero value up to 7 bits less than, and no greater than, the bit length of the raw key data (128).'],
    [() => raw(hmac, ['sign'], 0), 'DataError: Imported HMAC key length (0) must be a non-zero value up to 7 bits less than, and no greater than, the bit length of the raw key data (0).'],
    [() => raw('HKDF', ['deriveBits']), 'SyntaxError: HKDF key cannot be extractable.'],
    [async () => subtle.exportKey('raw', await raw('AES-GCM', ['encrypt'], 16, false)), 'InvalidAccessError: Attempt to export non-extractable AES-GCM key.'],
    [async () => subtle.exportKey('spki', await raw('AES-GCM', ['encrypt'])), 'NotSupportedError: AES-GCM key only supports exporting "raw", "raw-secret" & "jwk", not "spki".'],
    [() => jwk({ ...octets, kty: 'x' }, 'AES-GCM', ['encrypt']), 'DataError: Symmetric "jwk" key import requires a JSON Web Key with Key Type parameter "kty" equal to "oct" (encountered "x").'],
    [() => jwk({ ...octets, k: '*' }, 'AES-GCM', ['encrypt']), 'DataError: Symmetric "jwk" key import requires a base64Url encoding of the key.'],
    [() => jwk({ ...octets, alg: 'A256GCM' }, 'AES-GCM', ['encrypt']), 'DataError: Symmetric "jwk" key contains invalid "alg" value "A256GCM", expected "A128GCM".'],
    [() => jwk({ ...octets, use: 'sig' }, 'AES-GCM', ['encrypt']), 'DataError: Symmetric "jwk" key must have a "use" of "enc", not "sig".'],
    [() => jwk({ ...octets, key_ops: ['decrypt'] }, 'AES-GCM', ['encrypt']), 'DataError: "jwk" key missing usage "encrypt", in "key_ops".'],
    [() => jwk({ ...octets, ext: false }, 'AES-GCM', ['encrypt']), 'DataError: JWK ext field for "AES-GCM" is set to false but extractable is true'],
    [() => jwk({ ...octets, alg: 'HS1' }, hmac, ['sign']), 'DataError: HMAC "jwk" key import specifies "alg" that is incompatible with the hash name (encountered "HS1", expected "HS256").'],
  ]);
  equal(await subtle.exportKey('jwk', await raw('AES-GCM', ['encrypt', 'decrypt'])), { kty: 'oct', key_ops: ['encrypt', 'decrypt'], alg: 'A128GCM', ext: true, k: 'AAAAAAAAAAAAAAAAAAAAAA' });
});
test('keys that are made', async () => {
  const make = (algorithm, usages) => subtle.generateKey(algorithm, true, usages);
  const rsa = { name: 'RSA-PSS', hash: 'SHA-256', modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]) };
  await each([
    [() => make('PBKDF2', ['deriveBits']), 'NotSupportedError: Unrecognized key generation algorithm "PBKDF2" requested.'],
    [() => make({ name: 'AES-CBC', length: 100 }, ['encrypt']), 'OperationError: Generated AES key length must be 128, 192, or 256 bits but requested 100.'],
    [() => make({ name: 'AES-CBC', length: 128 }, []), 'SyntaxError: Secret/private CryptoKeys must have at least one usage.'],
    [() => make({ ...hmac, length: 0 }, ['sign']), 'OperationError: HMAC key length must be a non-zero unsigned long integer (requested 0).'],
    [() => make({ ...rsa, publicExponent: new Uint8Array([5]) }, ['sign']), 'OperationError: The "publicExponent" must be either 3 or 65537, but got 5.'],
    [() => make({ ...rsa, modulusLength: 200 }, ['sign']), 'OperationError: The modulus length must be a multiple of 8 and between 256 and 16k, but 200 was requested.'],
    [() => make({ ...rsa, modulusLength: 1032 }, ['sign']), "OperationError: Can't generate key: RSA key size is required to be a multiple of 128"],
    [() => make({ ...rsa, modulusLength: 8192 }, ['sign']), 'OperationError: RSA keys of 1024 to 4096 bits can be made here, but 8192 was requested.'],
    [() => make(rsa, ['verify']), 'SyntaxError: Attempt to generate asymmetric keys with no valid private key usages.'],
    [() => make(rsa, ['encrypt']), 'SyntaxError: Attempt to generate RSA-PSS key with invalid usage "encrypt".'],
    [() => make({ name: 'ECDSA', namedCurve: 'P-999' }, ['sign']), 'NotSupportedError: Unrecognized or unimplemented EC curve "P-999" requested.'],
    [() => make('ECDSA', ['sign']), 'TypeError: Missing field "namedCurve" in "algorithm".'],
  ]);
  dispatch.setEvent(null);
  await rejects(make({ name: 'AES-CBC', length: 128 }, ['encrypt']), 'Error: Disallowed operation called within global scope. Asynchronous I/O (ex: fetch() or connect()), setting a timeout, and generating random values are not allowed within global scope. To fix this error, perform this operation within a handler.');
});
test('keys with two halves', async () => {
  const pair = await subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify']);
  const spki = await subtle.exportKey('spki', pair.publicKey);
  const secret = await subtle.exportKey('jwk', pair.privateKey);
  delete secret.key_ops;
  const { d, ...open } = secret;
  const ed = await subtle.generateKey('Ed25519', true, ['sign', 'verify']);
  await each([
    [() => subtle.exportKey('raw', pair.privateKey), 'InvalidAccessError: Raw export of elliptic curve keys is only allowed for public keys.'],
    [() => subtle.exportKey('spki', pair.privateKey), 'InvalidAccessError: Asymmetric spki export requires public key (not "private").'],
    [() => subtle.exportKey('pkcs8', pair.publicKey), 'InvalidAccessError: Asymmetric pkcs8 export requires private key (not "public").'],
    [() => subtle.sign('ECDSA', pair.privateKey, some(1)), 'TypeError: Missing "hash" in AlgorithmIdentifier. (ECDSA requires that the hash algorithm be specified at call time rather than on the key. This differs from other WebCrypto algorithms for historical reasons.)'],
    [() => subtle.importKey('spki', some(5), p256, true, ['verify']), 'DataError: Invalid SPKI input.'],
    [() => subtle.importKey('pkcs8', some(5), p256, true, ['sign']), 'DataError: Invalid PKCS8 input.'],
    [() => subtle.importKey('spki', new Uint8Array([...new Uint8Array(spki), 1, 2]), p256, true, ['verify']), 'DataError: Invalid 2 trailing bytes after SPKI input.'],
    [() => subtle.importKey('spki', spki, { ...p256, namedCurve: 'P-384' }, true, ['verify']), 'DataError: "algorithm.namedCurve" "P-384" does not match the curve specified by the input key data.'],
    [() => subtle.importKey('spki', spki, { name: 'RSA-PSS', hash: 'SHA-1' }, true, ['verify']), 'DataError: Input was not an RSA key.'],
    [() => subtle.importKey('spki', spki, p256, true, ['sign']), 'SyntaxError: Attempt to import public ECDSA key with invalid usage "sign".'],
    [() => raw(p256, ['verify'], 65), 'DataError: Failed to import raw EC key data: Invalid point encoding..'],
    [() => jwk({ ...secret, kty: 'RSA' }, p256, ['sign']), 'DataError: Elliptic curve "jwk" key import requires a JSON Web Key with Key Type parameter "kty" ("RSA") equal to "EC".'],
    [() => jwk({ ...secret, x: 'AAAA' }, p256, ['sign']), 'OperationError: Invalid EC key; public key coordinates "x" and "y" are invalid: Point is not on curve..'],
    [() => jwk({ ...secret, d: secret.x }, p256, ['sign']), 'DataError: Invalid EC key in JSON Web Key.'],
    [() => jwk({ ...secret, alg: 'ES384' }, p256, ['sign']), 'DataError: JSON Web Key Algorithm parameter "alg" ("ES384") does not match requested curve.'],
    [() => jwk(open, p256, ['sign']), 'SyntaxError: Attempt to import public ECDSA key with invalid usage "sign".'],
    [() => jwk({ ...secret, key_ops: ['verify'] }, p256, ['sign']), 'DataError: All specified key usages must be present in the JSON Web Key\'s Key Operations parameter ("key_ops").'],
    [() => jwk({ ...secret, use: 'enc' }, p256, ['sign']), 'DataError: Asymmetric "jwk" key import with usages requires a JSON Web Key with Public Key Use parameter "use" ("enc") equal to "sig".'],
    [() => subtle.verify('Ed25519', ed.publicKey, some(3), some(3)), 'OperationError: Invalid Ed25519 signature length 3'],
    [() => raw('Ed25519', ['verify'], 31), 'DataError: Ed25519 raw keys must be exactly 32-bytes (provided 31).'],
    [() => raw('X25519', ['deriveBits'], 32), 'SyntaxError: Attempt to import public X25519 key with invalid usage "deriveBits".'],
    [() => jwk({ kty: 'RSA', n: 'AQAB', e: 'AQAB' }, { name: 'RSA-PSS', hash: 'SHA-1' }, ['verify']), 'DataError: Invalid RSA key in JSON Web Key; its numbers do not go together, or its modulus has not 1024 to 8192 bits.'],
    [() => jwk({ kty: 'RSA', e: 'AQAB' }, { name: 'RSA-PSS', hash: 'SHA-1' }, ['verify']), 'DataError: Invalid RSA key in JSON Web Key; missing or invalid Modulus parameter ("n").'],
  ]);
});
test('derivation', async () => {
  const pbkdf2 = await raw('PBKDF2', ['deriveBits', 'deriveKey'], 5, false);
  const hkdf = await raw('HKDF', ['deriveBits'], 5, false);
  const ecdh = { name: 'ECDH', namedCurve: 'P-256' };
  const { publicKey, privateKey } = await subtle.generateKey(ecdh, true, ['deriveBits', 'deriveKey']);
  const other = await subtle.generateKey({ ...ecdh, namedCurve: 'P-384' }, true, ['deriveBits']);
  const pb = (more, bits = 256) => () => subtle.deriveBits({ name: 'PBKDF2', hash: 'SHA-256', salt: some(4), iterations: 10, ...more }, pbkdf2, bits);
  const hk = (more, bits = 256) => () => subtle.deriveBits({ name: 'HKDF', hash: 'SHA-256', salt: some(4), info: some(2), ...more }, hkdf, bits);
  const dh = (open, bits) => () => subtle.deriveBits({ name: 'ECDH', public: open }, privateKey, bits);
  await each([
    [pb({ iterations: 100001 }), 'NotSupportedError: Pbkdf2 failed: iteration counts above 100000 are not supported (requested 100001).'],
    [pb({ iterations: 0 }), 'OperationError: PBKDF2 requires a positive iteration count (requested 0).'],
    [pb({ salt: undefined }), 'TypeError: Missing field "salt" in "algorithm".'],
    [pb({}, null), 'OperationError: PBKDF2 cannot derive a key with null length.'],
    [pb({}, 5), 'OperationError: PBKDF2 requires a derived key length that is a multiple of eight (requested 5).'],
    [pb({}, 255 * 256 + 8), 'OperationError: Pbkdf2 failed: derived key length exceeds maximum for this hash'],
    [pb({ iterations: 100000 }, 255 * 256), 'OperationError: Pbkdf2 failed: derived key length exceeds maximum for this hash'],
    [hk({ info: undefined }), 'TypeError: Missing field "info" in "algorithm".'],
    [hk({}, 255 * 256 + 8), 'OperationError: HKDF deriveBits failed.'],
    [dh(undefined), 'TypeError: Missing field "public" in "derivedKeyParams".'],
    [dh('x'), "TypeError: Incorrect type for the 'public' field on 'DeriveKeyAlgorithm': the provided value is not of type 'CryptoKey'."],
    [dh(privateKey), 'InvalidAccessError: The provided key has type "private", not "public"'],
    [dh(other.publicKey), 'InvalidAccessError: Private key for derivation is using curve "P-256" while public key is using "P-384".'],
    [dh(publicKey, 300), 'OperationError: Derived key length (300 bits) is too long (should be at most 256 bits).'],
    [dh(publicKey, -1), 'TypeError: deriveBits length must be an unsigned long integer.'],
    [() => subtle.deriveKey({ name: 'ECDH', public: publicKey }, privateKey, { name: 'AES-GCM', length: 100 }, true, ['encrypt']), 'OperationError: Derived AES key must be 128, 192, or 256 bits in length but provided 100.'],
    [() => subtle.deriveKey({ name: 'ECDH', public: publicKey }, privateKey, 'ECDSA', true, ['sign']), 'NotSupportedError: Unrecognized derived key type "ECDSA" requested.'],
  ]);
  equal([(await pb({}, 0)()).byteLength, (await hk({}, 0)()).byteLength, (await dh(publicKey, 0)()).byteLength], [0, 0, 0]);
});
test('keys within keys', async () => {
  const outer = await raw('AES-KW', ['wrapKey', 'unwrapKey']);
  const gcm = await raw('AES-GCM', ['encrypt', 'unwrapKey']);
  const sealing = { name: 'AES-GCM', iv: some(12) };
  const sealed = async (text) => subtle.encrypt(sealing, gcm, bytes(text));
  const unwrap = (data) => subtle.unwrapKey('raw', data, outer, 'AES-KW', 'AES-CBC', true, ['encrypt']);
  await each([
    [async () => subtle.wrapKey('raw', await raw(hmac, ['sign'], 15), outer, 'AES-KW'), 'OperationError: Unwrapped key bit length must be a multiple of 64 bits but unwrapped key has a length of 120 bits.'],
    [async () => subtle.wrapKey('raw', await raw('AES-CBC', ['encrypt'], 16, false), outer, 'AES-KW'), 'InvalidAccessError: Attempt to export non-extractable AES-CBC key.'],
    [() => unwrap(some(25)), "OperationError: Provided a wrapped key to unwrap that is 200 bits which isn't a multiple of 64 bits."],
    [() => unwrap(some(16)), 'OperationError: Provided a wrapped key to unwrap this is 128 bits that is less than the minimal length of 192 bits.'],
    [async () => subtle.unwrapKey('jwk', await sealed('5'), gcm, sealing, 'AES-CBC', true, ['encrypt']), 'DataError: Missing "kty" field or corrupt JSON unwrapping key?'],
    [async () => subtle.unwrapKey('raw', await sealed('0123456789abcdef'), gcm, sealing, 'AES-CBC', true, []), 'SyntaxError: Secret/private CryptoKeys must have at least one usage.'],
  ]);
});
test('an app that changes what everybody has overhears nothing', async () => {
  const seen = [];
  const spy = { get() { seen.push(this); return undefined; }, set() {}, configurable: true };
  Object.defineProperty(Object.prototype, 'toJSON', spy);
  Object.defineProperty(Array.prototype, 'toJSON', spy);
  const push = Array.prototype.push;
  Array.prototype.push = () => { seen.push('push'); };
  try {
    const outer = await raw('AES-GCM', ['wrapKey', 'unwrapKey']);
    const inner = await raw('AES-CBC', ['encrypt']);
    const sealing = { name: 'AES-GCM', iv: some(12) };
    await subtle.unwrapKey('jwk', await subtle.wrapKey('jwk', inner, outer, sealing), outer, sealing, 'AES-CBC', true, ['encrypt']);
  } finally {
    Array.prototype.push = push;
    delete Object.prototype.toJSON;
    delete Array.prototype.toJSON;
  }
  equal(seen.length, 0);
});
test('more keys than there is room for', async () => {
  const keys = [];
  await rejects(async () => { for (;;) keys.push(await raw(hmac, ['sign'], 4 << 20)); }, 'RangeError: More than 32 MiB of keys are held.');
  equal(keys.length, 7);
  keys.length = 0;
  await raw(hmac, ['sign'], 4 << 20);
});
