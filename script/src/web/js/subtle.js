// SubtleCrypto: the operations of keys. What a key is made of is in `cryptokey.js` and `pairs.js`, what is calculated in Rust.
(function (internal) {
  'use strict';
  const { p, h, dom, natives } = internal;
  const { TypeError, typedBuffer, typedLength, isArray } = p;
  const { bytesOf, finish, illegal, isObject, wrongArgument } = h;
  const { native, seed, goOn, keyOf, has, needHash, digestName, hashBits, blockBits, shaSize, encoded, algorithms } = internal.cryptoKeys;
  // As many iterations as the reference has: each takes time in which nothing stops a script.
  const MOST_ITERATIONS = 100000;

  const subtles = new p.SafeWeakSet();
  class SubtleCrypto {
    constructor(secret) { if (secret !== internal) throw new TypeError('Illegal constructor'); subtles.add(this); }
    async encrypt(algorithm, key, data) {
      check(this);
      const params = dictionary(algorithm, 'encrypt', 1, ENCRYPT);
      return buffer(encrypt(usable(needKey(key, 'encrypt', 2), params, 'encrypt'), params, needBytes(data, 'encrypt', 3)));
    }
    async decrypt(algorithm, key, data) {
      check(this);
      const params = dictionary(algorithm, 'decrypt', 1, ENCRYPT);
      return buffer(decrypt(usable(needKey(key, 'decrypt', 2), params, 'decrypt'), params, needBytes(data, 'decrypt', 3)));
    }
    async sign(algorithm, key, data) {
      check(this);
      const params = dictionary(algorithm, 'sign', 1, SIGN);
      return buffer(sign(usable(needKey(key, 'sign', 2), params, 'sign'), params, needBytes(data, 'sign', 3)));
    }
    async verify(algorithm, key, signature, data) {
      check(this);
      const params = dictionary(algorithm, 'verify', 1, SIGN);
      needKey(key, 'verify', 2);
      signature = needBytes(signature, 'verify', 3);
      data = needBytes(data, 'verify', 4);
      return verify(usable(keyOf(key), params, 'verify'), params, signature, data);
    }
    async digest(algorithm, data) {
      check(this);
      const { name } = dictionary(algorithm, 'digest', 1, HASH);
      data = needBytes(data, 'digest', 2);
      return buffer(done(native.digest(digestName(name), data)));
    }
    async generateKey(algorithm, extractable, usages) {
      check(this);
      const params = dictionary(algorithm, 'generateKey', 1, GENERATE);
      const given = needUsages(usages, 'generateKey', 3);
      const found = algorithms[natives.asciiLower(params.name)];
      if (found === undefined || found.generate === undefined) throw dom('NotSupportedError', `Unrecognized key generation algorithm "${params.name}" requested.`);
      internal.inEvent();
      const made = done(found.generate(found.name, params, !!extractable, given));
      if (internal.isCryptoKey(made)) needSome(keyOf(made));
      return made;
    }
    async deriveKey(algorithm, key, derived, extractable, usages) {
      check(this);
      const params = dictionary(algorithm, 'deriveKey', 1, DERIVE);
      needKey(key, 'deriveKey', 2);
      const wanted = dictionary(derived, 'deriveKey', 3, IMPORT);
      const given = needUsages(usages, 'deriveKey', 5);
      const base = usable(keyOf(key), params, 'deriveKey');
      const bytes = derive(base, params, lengthOf(wanted));
      const made = read('raw', { bytes, jwk: undefined }, wanted, !!extractable, given);
      native.wipe(bytes);
      return made;
    }
    async deriveBits(algorithm, key, length = undefined) {
      check(this);
      const params = dictionary(algorithm, 'deriveBits', 1, DERIVE);
      needKey(key, 'deriveBits', 2);
      const bits = length === undefined || length === null ? undefined : integer(length);
      if (bits < 0) throw new TypeError('deriveBits length must be an unsigned long integer.');
      return buffer(derive(usable(keyOf(key), params, 'deriveBits'), params, bits));
    }
    async importKey(format, data, algorithm, extractable, usages) {
      check(this);
      format = `${format}`;
      const bytes = bytesOf(data);
      if (bytes === null && !isObject(data)) throw wrongArgument('SubtleCrypto', 'importKey', 2, 'BufferSource or JsonWebKey');
      const given = bytes === null ? { bytes: undefined, jwk: webKey(data) } : { bytes, jwk: undefined };
      const params = dictionary(algorithm, 'importKey', 3, IMPORT);
      return read(format, given, params, !!extractable, needUsages(usages, 'importKey', 5));
    }
    async exportKey(format, key) {
      check(this);
      format = `${format}`;
      const written = write(format, needKey(key, 'exportKey', 2));
      return format === 'jwk' ? written : buffer(written);
    }
    async wrapKey(format, key, wrapping, algorithm) {
      check(this);
      format = `${format}`;
      needKey(key, 'wrapKey', 2);
      const outer = needKey(wrapping, 'wrapKey', 3);
      const params = dictionary(algorithm, 'wrapKey', 4, ENCRYPT);
      usable(outer, params, 'wrapKey');
      const written = write(format, keyOf(key));
      const bytes = format === 'jwk' ? natives.encode(jsonOf(written)) : written;
      const wrapped = outer.algorithm.name === 'AES-KW' ? wrap(outer, bytes) : encrypt(outer, params, bytes);
      native.wipe(bytes);
      return buffer(wrapped);
    }
    async unwrapKey(format, wrapped, unwrapping, algorithm, unwrapped, extractable, usages) {
      check(this);
      format = `${format}`;
      const data = needBytes(wrapped, 'unwrapKey', 2);
      const outer = needKey(unwrapping, 'unwrapKey', 3);
      const params = dictionary(algorithm, 'unwrapKey', 4, ENCRYPT);
      const wanted = dictionary(unwrapped, 'unwrapKey', 5, IMPORT);
      const given = needUsages(usages, 'unwrapKey', 7);
      usable(outer, params, 'unwrapKey');
      const bytes = outer.algorithm.name === 'AES-KW' ? unwrap(outer, data) : decrypt(outer, params, data);
      try {
        return read(format, format === 'jwk' ? { bytes: undefined, jwk: parsed(bytes) } : { bytes, jwk: undefined }, wanted, !!extractable, given);
      } finally { native.wipe(bytes); }
    }
    timingSafeEqual(one, other) {
      check(this);
      one = needBytes(one, 'timingSafeEqual', 1);
      other = needBytes(other, 'timingSafeEqual', 2);
      if (typedLength(one) !== typedLength(other)) throw new TypeError('Input buffers must have the same byte length.');
      return native.same(one, other);
    }
  }
  finish(SubtleCrypto, 'SubtleCrypto');
  internal.shape(SubtleCrypto, 'SubtleCrypto', []);
  internal.subtle = new SubtleCrypto(internal);
  const check = (self) => { if (!isObject(self) || !subtles.has(self)) throw illegal(); };

  // ---- What is given ----

  const buffer = (bytes) => typedBuffer(bytes);
  // After each operation: a script that has used up its time ends here.
  const done = (value) => { goOn(); return value; };
  const needKey = (key, method, index) => { if (!internal.isCryptoKey(key)) throw wrongArgument('SubtleCrypto', method, index, 'CryptoKey'); return keyOf(key); };
  function needBytes(data, method, index) {
    const bytes = bytesOf(data);
    if (bytes === null) throw wrongArgument('SubtleCrypto', method, index, 'BufferSource');
    return bytes;
  }
  function needUsages(list, method, index) {
    if (!isArray(list)) throw wrongArgument('SubtleCrypto', method, index, 'Array');
    return texts(list);
  }
  function texts(list) { const copy = []; for (let i = 0; i < list.length; i++) copy[i] = `${list[i]}`; return copy; }
  const needSome = (state) => { if (state.type !== 'public' && state.usages.length === 0) throw dom('SyntaxError', 'Secret/private CryptoKeys must have at least one usage.'); };

  const wrongField = (field, where, type) => new TypeError(`Incorrect type for the '${field}' field on '${where}': the provided value is not of type '${type}'.`);
  function integer(value) {
    value = p.trunc(+value) || 0;
    if (value < -2147483648 || value > 2147483647) throw new TypeError('Value out of range. Must be between -2147483648 and 2147483647 (inclusive).');
    return value;
  }
  const readers = {
    __proto__: null,
    bytes(value, field, where) { const bytes = bytesOf(value); if (bytes === null) throw wrongField(field, where, 'BufferSource'); return bytes; },
    integer,
    text: (value) => `${value}`,
    named: (value) => (isObject(value) ? `${value.name}` : `${value}`),
    key(value, field, where) { if (!internal.isCryptoKey(value)) throw wrongField(field, where, 'CryptoKey'); return keyOf(value); },
    list(value, field, where) { if (!isArray(value)) throw wrongField(field, where, 'Array'); return texts(value); },
    truth: (value) => !!value,
    any: () => true,
  };
  // The members of the dictionaries, in the order in which they are read.
  const HASH = ['HashAlgorithm', []];
  const ENCRYPT = ['EncryptAlgorithm', [['iv', 'bytes'], ['additionalData', 'bytes'], ['tagLength', 'integer'], ['counter', 'bytes'], ['length', 'integer'], ['label', 'bytes']]];
  const SIGN = ['SignAlgorithm', [['hash', 'named'], ['saltLength', 'integer']]];
  const GENERATE = ['GenerateKeyAlgorithm', [['hash', 'named'], ['modulusLength', 'integer'], ['publicExponent', 'bytes'], ['length', 'integer'], ['namedCurve', 'text']]];
  const IMPORT = ['ImportKeyAlgorithm', [['hash', 'named'], ['length', 'integer'], ['namedCurve', 'text']]];
  const DERIVE = ['DeriveKeyAlgorithm', [['salt', 'bytes'], ['iterations', 'integer'], ['hash', 'named'], ['public', 'key'], ['info', 'bytes']]];
  const JWK = ['JsonWebKey', [
    ['kty', 'text'], ['use', 'text'], ['key_ops', 'list'], ['alg', 'text'], ['ext', 'truth'], ['crv', 'text'], ['x', 'text'], ['y', 'text'], ['d', 'text'], ['n', 'text'],
    ['e', 'text'], ['p', 'text'], ['q', 'text'], ['dp', 'text'], ['dq', 'text'], ['qi', 'text'], ['oth', 'any'], ['k', 'text'],
  ]];
  function members(object, kind) {
    const record = { __proto__: null };
    for (let i = 0; i < kind[1].length; i++) {
      const field = kind[1][i][0];
      const value = object[field];
      record[field] = value === undefined ? undefined : readers[kind[1][i][1]](value, field, kind[0]);
    }
    return record;
  }
  // An algorithm: its name alone, or an object with more.
  function dictionary(given, method, index, kind) {
    if (given === undefined || given === null) throw wrongArgument('SubtleCrypto', method, index, `string or ${kind[0]}`);
    if (!isObject(given)) return { __proto__: null, name: `${given}` };
    const record = members(given, kind);
    record.name = `${given.name}`;
    return record;
  }
  function webKey(object) {
    const jwk = members(object, JWK);
    jwk.kty = `${jwk.kty}`;
    return jwk;
  }

  // The key, if it may do this.
  function usable(state, params, usage) {
    const { name } = state.algorithm;
    if (natives.asciiLower(params.name) !== natives.asciiLower(name)) throw dom('InvalidAccessError', `Requested algorithm "${params.name}" does not match this CryptoKey's algorithm "${name}".`);
    if (!has(state.usages, usage)) throw dom('InvalidAccessError', `Requested key usage "${usage}" does not match any usage listed in this CryptoKey.`);
    return state;
  }

  // ---- Import and export ----

  const modern = (format) => { if (format === 'raw-secret' || format === 'raw-public' || format === 'raw-seed') throw dom('NotSupportedError', `Key format "${format}" requires the webcrypto_modern_algorithms flag.`); };
  function read(format, data, params, extractable, given) {
    modern(format);
    if (format === 'raw' || format === 'pkcs8' || format === 'spki') {
      if (data.bytes === undefined) throw new TypeError('Import data provided for buffer-based import formats must be a buffer source.');
    } else if (format === 'jwk') {
      if (data.jwk === undefined) throw new TypeError('Import data provided for "jwk" import format must be a JsonWebKey.');
      if (data.jwk.ext === false && extractable) throw dom('DataError', `JWK ext field for "${params.name}" is set to false but extractable is true`);
    } else throw dom('NotSupportedError', `Unrecognized key import format "${format}".`);
    const found = algorithms[natives.asciiLower(params.name)];
    if (found === undefined) throw dom('NotSupportedError', `Unrecognized key import algorithm "${params.name}" requested.`);
    const made = done(found.import(found.name, format, data, params, extractable, given));
    needSome(keyOf(made));
    return made;
  }
  function parsed(bytes) {
    const value = p.jsonParse(natives.decode(bytes));
    if (!isObject(value)) throw dom('DataError', 'Missing "kty" field or corrupt JSON unwrapping key?');
    return webKey(value);
  }

  // Bytes, or the object of a JSON Web Key.
  function write(format, state) {
    const { name } = state.algorithm;
    if (!state.extractable) throw dom('InvalidAccessError', `Attempt to export non-extractable ${name} key.`);
    modern(format);
    if (state.type === 'secret') return writeSecret(format, state, name);
    if (format === 'jwk') return writePair(state, name);
    if (format === 'pkcs8' && state.type !== 'private') throw dom('InvalidAccessError', `Asymmetric pkcs8 export requires private key (not "${state.type}").`);
    if (format === 'spki' && state.type !== 'public') throw dom('InvalidAccessError', `Asymmetric spki export requires public key (not "${state.type}").`);
    if (format === 'pkcs8' || format === 'spki') return done(state.key(format));
    if (format !== 'raw' || p.stringStartsWith(name, 'RSA')) throw dom('InvalidAccessError', `Cannot export "${name}" in "${format}" format.`);
    if (state.type === 'private') throw dom('InvalidAccessError', `Raw export of ${p.stringStartsWith(name, 'EC') ? 'elliptic curve' : name} keys is only allowed for public keys.`);
    return state.key('raw');
  }
  const AES = 'AES-';
  function writeSecret(format, state, name) {
    if (format === 'raw') return state.key('raw');
    if (format !== 'jwk')
      throw dom('NotSupportedError', p.stringStartsWith(name, AES) ? `${name} key only supports exporting "raw", "raw-secret" & "jwk", not "${format}".` : `Unimplemented key export format "${format}".`);
    const alg = p.stringStartsWith(name, AES) ? `A${state.algorithm.length}${p.stringSlice(name, 4)}`
      : `HS${shaSize(state.algorithm.hash, (hash) => `Unimplemented JWK key export format for key algorithm "${hash}".`)}`;
    return { kty: 'oct', key_ops: p.arraySlice(state.usages), alg, ext: true, k: encoded(state.key('raw')) };
  }
  function writePair(state, name) {
    const key_ops = p.arraySlice(state.usages);
    const parts = state.key('jwk');
    const part = (at) => encoded(parts[at]);
    if (p.stringStartsWith(name, 'RSA')) {
      const size = shaSize(state.algorithm.hash, (hash) => `JWK export not supported for hash algorithm "${hash}".`);
      const alg = name === 'RSA-OAEP' ? (size === '1' ? 'RSA-OAEP' : `RSA-OAEP-${size}`) : `${name === 'RSA-PSS' ? 'PS' : 'RS'}${size}`;
      if (state.type === 'public') return { kty: 'RSA', key_ops, alg, ext: true, n: part(0), e: part(1) };
      return { kty: 'RSA', key_ops, alg, ext: true, d: part(2), n: part(0), e: part(1), p: part(3), q: part(4), dp: part(5), dq: part(6), qi: part(7) };
    }
    if (p.stringStartsWith(name, 'EC')) {
      const jwk = { kty: 'EC', key_ops, ext: true, crv: state.algorithm.namedCurve, x: part(0), y: part(1) };
      if (state.type === 'private') jwk.d = part(2);
      return jwk;
    }
    const crv = name === 'X25519' ? name : 'Ed25519';
    const jwk = name === 'Ed25519' ? { kty: 'OKP', key_ops, alg: 'EdDSA', ext: true, crv, x: part(0) } : { kty: 'OKP', key_ops, ext: true, crv, x: part(0) };
    if (state.type === 'private') jwk.d = part(1);
    return jwk;
  }
  // By hand: the engine would ask what an app has put on the prototypes. All texts are names and base64.
  function jsonOf(jwk) {
    const quoted = (text) => `"${text}"`;
    let text = '';
    const keys = p.objectKeys(jwk);
    for (let i = 0; i < keys.length; i++) {
      const value = jwk[keys[i]];
      let shown = value === true ? 'true' : quoted(value);
      if (keys[i] === 'key_ops') { shown = ''; for (let k = 0; k < value.length; k++) shown += (k > 0 ? ',' : '') + quoted(value[k]); shown = `[${shown}]`; }
      text += `${i > 0 ? ',' : ''}"${keys[i]}":${shown}`;
    }
    return `{${text}}`;
  }

  // ---- Encryption ----

  const none = new p.Uint8Array(0);
  function cryptFailed(input, output, name) {
    return dom('OperationError', `Decryption failed. This could be due to a ciphertext authentication failure, bad padding, incorrect CryptoKey, or another algorithm-specific reason. Input length was ${input}, output length expected to be ${output} for ${name}`);
  }
  function encrypt(state, params, data) {
    const { name } = state.algorithm;
    if (name === 'AES-GCM') return done(state.key('gcmEncrypt', gcmIv(params), params.additionalData ?? none, gcmTag(params) / 8, data));
    if (name === 'AES-CBC') return done(state.key('cbcEncrypt', cbcIv(params, ' bytes'), data));
    if (name === 'AES-CTR') return counted(state, params, data);
    if (name !== 'RSA-OAEP') throw dom('NotSupportedError', `The encrypt operation is not implemented for "${name}".`);
    if (state.type !== 'public') throw dom('InvalidAccessError', `Encryption/key wrapping only works with public keys, not "${state.type}".`);
    return oaep(state, 'encrypt', params, data);
  }
  function decrypt(state, params, data) {
    const { name } = state.algorithm;
    if (name === 'AES-GCM') return gcmDecrypt(state, params, data);
    if (name === 'AES-CBC') {
      const size = typedLength(data);
      const text = done(state.key('cbcDecrypt', cbcIv(params, ''), data));
      if (text === null) throw cryptFailed(size, size % 16 === 0 ? p.max(size - 16, 0) : size - (size % 16), name);
      return text;
    }
    if (name === 'AES-CTR') return counted(state, params, data);
    if (name !== 'RSA-OAEP') throw dom('NotSupportedError', `The decrypt operation is not implemented for "${name}".`);
    if (state.type !== 'private') throw dom('InvalidAccessError', `Decryption/key unwrapping only works with private keys, not "${state.type}".`);
    return oaep(state, 'decrypt', params, data);
  }
  function needIv(params) { if (params.iv === undefined) throw new TypeError('Missing field "iv" in "algorithm".'); return params.iv; }
  function gcmIv(params) {
    if (typedLength(needIv(params)) === 0) throw dom('OperationError', 'AES-GCM IV must not be empty.');
    return params.iv;
  }
  function gcmTag(params) {
    const bits = params.tagLength ?? 128;
    if (bits !== 32 && bits !== 64 && (bits < 96 || bits > 128 || bits % 8 !== 0)) throw dom('OperationError', `Invalid AES-GCM tag length ${bits}.`);
    return bits;
  }
  function gcmDecrypt(state, params, data) {
    const iv = gcmIv(params);
    const tag = gcmTag(params);
    const size = typedLength(data);
    if (size < tag / 8) throw dom('OperationError', `Ciphertext length of ${size * 8} bits must be greater than or equal to the size of the AES-GCM tag length of ${tag} bits.`);
    const text = done(state.key('gcmDecrypt', iv, params.additionalData ?? none, tag / 8, data));
    if (text === null) throw cryptFailed(size - tag / 8, size - tag / 8, 'AES-GCM');
    return text;
  }
  function cbcIv(params, unit) {
    const size = typedLength(needIv(params));
    if (size !== 16) throw dom('OperationError', `AES-CBC IV must be 16 bytes long (provided ${size}${unit}).`);
    return params.iv;
  }
  function counted(state, params, data) {
    const { counter, length } = params;
    if (counter === undefined) throw new TypeError('Missing "counter" member in "algorithm".');
    if (typedLength(counter) !== 16) throw dom('OperationError', `Counter must have length of 16 bytes (provided ${typedLength(counter)}).`);
    if (length === undefined) throw new TypeError('Missing "length" member in "algorithm".');
    if (length <= 0 || length > 128) throw dom('OperationError', `Invalid counter of ${length} bits length provided.`);
    const out = done(state.key('ctr', counter, length, data));
    if (out === null) throw dom('OperationError', 'Counter block values will repeat.');
    return out;
  }
  function oaep(state, op, params, data) {
    const out = done(state.key(op, state.algorithm.hash, params.label ?? none, data, seed()));
    if (out === null) throw dom('OperationError', 'RSA-OAEP failed encrypt/decrypt.');
    return out;
  }
  function wrap(state, data) {
    const size = typedLength(data);
    if (size % 8 !== 0) throw dom('OperationError', `Unwrapped key bit length must be a multiple of 64 bits but unwrapped key has a length of ${size * 8} bits.`);
    if (size < 16) throw dom('OperationError', `Unwrapped key has length ${size} bytes but it should be greater than or equal to 16 and less than or equal to 18446744073709551607`);
    return done(state.key('wrap', data));
  }
  function unwrap(state, data) {
    const bits = typedLength(data) * 8;
    if (bits % 64 !== 0) throw dom('OperationError', `Provided a wrapped key to unwrap that is ${bits} bits which isn't a multiple of 64 bits.`);
    if (bits < 192) throw dom('OperationError', `Provided a wrapped key to unwrap this is ${bits} bits that is less than the minimal length of 192 bits.`);
    const bytes = done(state.key('unwrap', data));
    if (bytes === null) throw dom('OperationError', 'AES-KW key unwrapping failed.');
    return bytes;
  }

  // ---- Signatures ----

  function sign(state, params, data) {
    const { name, hash, modulusLength } = state.algorithm;
    if (name === 'HMAC') return done(state.key('sign', hash, data));
    if (state.type !== 'private') throw dom('InvalidAccessError', 'Asymmetric signing requires a private key.');
    if (name === 'ECDSA') return signed(state.key('sign', callHash(params), data, seed()));
    if (name !== 'RSASSA-PKCS1-v1_5' && name !== 'RSA-PSS') return done(state.key('sign', data));
    const room = modulusLength / 8 - hashBits[hash] / 8;
    if (name === 'RSASSA-PKCS1-v1_5') {
      if (room < 32) throw dom('OperationError', `key too small for signing with given digest, need at least ${hashBits[hash] + 256}bits.`);
      return signed(state.key('sign', 'pkcs1', hash, 0, data, seed()));
    }
    const salt = params.saltLength;
    if (salt === undefined) throw dom('DataError', 'Failed to provide salt for RSA-PSS key operation which requires a salt');
    if (salt < 0) throw negativeSalt(salt);
    if (room < 2) throw dom('OperationError', 'key too small for signing with given digest');
    if (salt > room - 2) throw dom('OperationError', 'key too small for signing with given digest and salt length');
    return signed(state.key('sign', 'pss', hash, salt, data, seed()));
  }
  function signed(signature) {
    goOn();
    if (signature === null) throw dom('OperationError', 'The signature could not be made.');
    return signature;
  }
  const negativeSalt = (salt) => dom('DataError', `SaltLength for RSA-PSS must be non-negative (provided ${salt}).`);
  function callHash(params) {
    if (params.hash === undefined)
      throw new TypeError('Missing "hash" in AlgorithmIdentifier. (ECDSA requires that the hash algorithm be specified at call time rather than on the key. This differs from other WebCrypto algorithms for historical reasons.)');
    return digestName(params.hash);
  }
  function verify(state, params, signature, data) {
    const { name, hash } = state.algorithm;
    if (name === 'HMAC') return done(state.key('verify', hash, data, signature));
    if (state.type !== 'public') throw dom('InvalidAccessError', 'Asymmetric verification requires a public key.');
    if (name === 'ECDSA') return done(state.key('verify', callHash(params), data, signature));
    if (name === 'RSASSA-PKCS1-v1_5') return done(state.key('verify', 'pkcs1', hash, 0, data, signature));
    if (name === 'RSA-PSS') {
      if (params.saltLength === undefined) throw new TypeError('Failed to provide salt for RSA-PSS key operation which requires a salt');
      if (params.saltLength < 0) throw negativeSalt(params.saltLength);
      return done(state.key('verify', 'pss', hash, params.saltLength, data, signature));
    }
    if (typedLength(signature) !== 64) throw dom('OperationError', `Invalid ${name} signature length ${typedLength(signature)}`);
    return done(state.key('verify', data, signature));
  }

  // ---- Derivation ----

  function derive(state, params, length) {
    const { name } = state.algorithm;
    if (name === 'ECDH' || name === 'X25519') return agree(state, params, length, name);
    const hash = needHash(params);
    if (params.salt === undefined) throw new TypeError('Missing field "salt" in "algorithm".');
    if (name === 'HKDF' && params.info === undefined) throw new TypeError('Missing field "info" in "algorithm".');
    if (name === 'PBKDF2' && params.iterations === undefined) throw new TypeError('Missing field "iterations" in "algorithm".');
    if (length === undefined) throw dom('OperationError', `${name} cannot derive a key with null length.`);
    if (length % 8 !== 0) throw dom('OperationError', `${name} requires a derived key length that is a multiple of eight (requested ${length}).`);
    if (name === 'HKDF') {
      const bytes = done(state.key('hkdf', hash, params.salt, params.info, length / 8));
      if (bytes === null) throw dom('OperationError', 'HKDF deriveBits failed.');
      return bytes;
    }
    return stretch(state, hash, params, length / 8);
  }
  function stretch(state, hash, params, size) {
    const { iterations, salt } = params;
    if (iterations <= 0) throw dom('OperationError', `PBKDF2 requires a positive iteration count (requested ${iterations}).`);
    if (iterations > MOST_ITERATIONS) throw dom('NotSupportedError', `Pbkdf2 failed: iteration counts above ${MOST_ITERATIONS} are not supported (requested ${iterations}).`);
    const bytes = size > (255 * hashBits[hash]) / 8 ? null : done(state.key('pbkdf2', hash, salt, iterations, size));
    if (bytes === null) throw dom('OperationError', 'Pbkdf2 failed: derived key length exceeds maximum for this hash');
    return bytes;
  }
  const isDerivation = (name) => name === 'ECDH' || name === 'ECDSA';
  function agree(state, params, length, name) {
    if (state.type !== 'private') throw dom('InvalidAccessError', `The deriveBits operation is only valid for a private key, not "${state.type}".`);
    const other = params.public;
    if (other === undefined) throw new TypeError('Missing field "public" in "derivedKeyParams".');
    if (other.type !== 'public') throw dom('InvalidAccessError', `The provided key has type "${other.type}", not "public"`);
    const { name: its, namedCurve } = other.algorithm;
    if (p.stringStartsWith(its, 'RSA') || isDerivation(its) !== isDerivation(name)) throw dom('InvalidAccessError', `Base ${name} private key cannot be used to derive a key from a peer ${its} public key`);
    if (its !== name) throw dom('InvalidAccessError', `Private key for derivation is using "${name}" while public key is using "${its}".`);
    if (namedCurve !== state.algorithm.namedCurve) throw dom('InvalidAccessError', `Private key for derivation is using curve "${state.algorithm.namedCurve}" while public key is using "${namedCurve}".`);
    const shared = done(state.key('derive', other.key('raw')));
    if (shared === null) throw dom('OperationError', name === 'X25519' ? 'Failed to derive EDDH key: public key routines INVALID_PEER_KEY.' : 'Failed to generate shared ECDH secret.');
    return firstBits(shared, length ?? typedLength(shared) * 8);
  }
  // The first bits; those of the last byte that are none of them are 0.
  function firstBits(shared, bits) {
    const most = typedLength(shared) * 8;
    if (bits > most) throw dom('OperationError', `Derived key length (${bits} bits) is too long (should be at most ${most} bits).`);
    const part = natives.copy(h.sub(shared, 0, p.floor((bits + 7) / 8)));
    native.wipe(shared);
    if (bits % 8 !== 0) part[typedLength(part) - 1] &= 0xff00 >> (bits % 8);
    return part;
  }
  const KINDS = { __proto__: null, 'aes-ctr': 1, 'aes-cbc': 1, 'aes-gcm': 1, 'aes-kw': 1, hmac: 2, hkdf: 3, pbkdf2: 3 };
  // How many bits a key of this kind is derived of.
  function lengthOf(wanted) {
    const kind = KINDS[natives.asciiLower(wanted.name)];
    const { length } = wanted;
    if (kind === undefined) throw dom('NotSupportedError', `Unrecognized derived key type "${wanted.name}" requested.`);
    if (kind === 3) return undefined;
    if (kind === 1) {
      if (length === undefined) throw new TypeError('Missing field "length" in "derivedKeyParams".');
      if (length !== 128 && length !== 192 && length !== 256) throw dom('OperationError', `Derived AES key must be 128, 192, or 256 bits in length but provided ${length}.`);
      return length;
    }
    if (length === undefined) return blockBits[needHash(wanted, 'derivedKeyParams')];
    if (length <= 0) throw new TypeError('HMAC key length must be a non-zero unsigned long integer.');
    return length;
  }
});
