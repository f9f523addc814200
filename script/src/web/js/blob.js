// Blob and File: bytes that do not change, and their media type.
(function (internal) {
  'use strict';
  const { p, h, natives, shape } = internal;
  const { Error, TypeError, isArray, typedLength, min, max, trunc } = p;
  const { bytesOf, finish, illegal, wrongInit, member, isObject, sub } = h;

  let blobOf;
  let makeBlob;
  let fillBlob;
  class Blob {
    #state;
    static {
      blobOf = (blob) => { if (typeof blob !== 'object' || blob === null || !(#state in blob)) throw illegal(); return blob.#state; };
      internal.isBlob = (value) => typeof value === 'object' && value !== null && #state in value;
      fillBlob = (blob, bytes, type) => { blob.#state = { bytes, type }; return blob; };
      makeBlob = (bytes, type) => fillBlob(new Blob(), bytes, type);
    }
    constructor(parts = undefined, options = undefined) {
      if (parts !== undefined && !isArray(parts)) throw wrongInit('Blob', 1, 'Array');
      checkOptions(options, 'Blob', 2);
      this.#state = { bytes: gather(parts), type: mediaType(member(options, 'type')) };
    }
    get size() { return typedLength(blobOf(this).bytes); }
    get type() { return blobOf(this).type; }
    slice(start = 0, end = undefined, type = undefined) {
      const { bytes } = blobOf(this);
      const size = typedLength(bytes);
      const place = (value) => { value = integer(value); return value < 0 ? max(size + value, 0) : min(value, size); };
      const from = place(start);
      return makeBlob(sub(bytes, from, max(end === undefined ? size : place(end), from)), mediaType(type));
    }
    async arrayBuffer() { return p.typedBuffer(natives.copy(blobOf(this).bytes)); }
    async bytes() { return natives.copy(blobOf(this).bytes); }
    async text() { return natives.decodeAll(blobOf(this).bytes); }
    stream() { return internal.streamOf(blobOf(this).bytes); }
  }
  finish(Blob, 'Blob');
  shape(Blob, 'Blob', ['size', 'type']);

  function gather(parts) {
    const list = [];
    for (let i = 0; parts !== undefined && i < parts.length; i++) {
      const part = parts[i];
      const bytes = bytesOf(part);
      list[list.length] = bytes !== null ? bytes : internal.isBlob(part) ? blobOf(part).bytes : natives.encode(`${part}`);
    }
    return natives.concat(list);
  }
  function checkOptions(options, name, index) {
    if (options === undefined || options === null) return;
    if (!isObject(options)) throw wrongInit(name, index, 'Options');
    if (options.endings !== undefined) throw new Error("The 'endings' field on 'Options' is not implemented.");
  }
  // A whole number of 32 bits; what is no number is 0.
  function integer(value) {
    value = +value;
    value = value - value === 0 ? trunc(value) : 0;
    if (value < -2147483648 || value > 2147483647) throw new TypeError('Value out of range. Must be between -2147483648 and 2147483647 (inclusive).');
    return value;
  }
  function mediaType(type) {
    if (type === undefined) return '';
    type = `${type}`;
    return p.regexpExec(/^[ -~]*$/, type) === null ? '' : natives.asciiLower(type);
  }

  let fileOf;
  class File extends Blob {
    #file;
    static {
      fileOf = (file) => { if (typeof file !== 'object' || file === null || !(#file in file)) throw illegal(); return file.#file; };
      internal.isFile = (value) => typeof value === 'object' && value !== null && #file in value;
    }
    constructor(parts, name, options = undefined) {
      if (arguments.length < 2) throw wrongInit('File', arguments.length + 1, arguments.length === 0 ? 'Array' : 'string');
      if (!isArray(parts)) throw wrongInit('File', 1, 'Array');
      checkOptions(options, 'File', 3);
      super(parts, options);
      const modified = member(options, 'lastModified');
      this.#file = { name: natives.usv(`${name}`), modified: modified === undefined ? internal.host.now() : +modified || 0 };
    }
    get name() { return fileOf(this).name; }
    get lastModified() { return fileOf(this).modified; }
  }
  finish(File, 'File');
  shape(File, 'File', ['name', 'lastModified', 'size', 'type']);

  internal.makeBlob = makeBlob;
  internal.makeFile = (bytes, name, type) => fillBlob(new File([], name), bytes, type);
  internal.blobBytes = (blob) => blobOf(blob).bytes;
  internal.blobType = (blob) => blobOf(blob).type;
  internal.fileName = (file) => fileOf(file).name;
});
