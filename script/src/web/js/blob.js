// Blob and File: bytes that do not change, and their media type.
(function (internal) {
  'use strict';
  const { p, h, natives, shape } = internal;
  const { typedLength, symbolIterator, Uint8Array, min, max, trunc } = p;
  const { bytesOf, finish, illegal, wrongInit, member, isObject, sub } = h;

  let blobOf;
  let makeBlob;
  let fillBlob;
  class Blob {
    #state;
    static {
      blobOf = (blob) => { if (!isObject(blob) || !(#state in blob)) throw illegal(); return blob.#state; };
      internal.isBlob = (value) => isObject(value) && #state in value;
      fillBlob = (blob, bytes, type) => { blob.#state = { bytes, type }; return blob; };
      makeBlob = (bytes, type) => fillBlob(new Blob(), bytes, type);
    }
    constructor(parts = undefined, options = undefined) {
      if (parts !== undefined && (!isObject(parts) || typeof parts[symbolIterator] !== 'function')) throw wrongInit('Blob', 1, 'Array');
      this.#state = { bytes: gather(parts), type: mediaType(member(options, 'type')) };
    }
    get size() { return typedLength(blobOf(this).bytes); }
    get type() { return blobOf(this).type; }
    slice(start = 0, end = undefined, type = undefined) {
      const { bytes } = blobOf(this);
      const size = typedLength(bytes);
      const place = (value) => { value = trunc(+value) || 0; return value < 0 ? max(size + value, 0) : min(value, size); };
      const from = place(start);
      return makeBlob(sub(bytes, from, max(end === undefined ? size : place(end), from)), mediaType(type));
    }
    async arrayBuffer() { return p.typedBuffer(natives.copy(blobOf(this).bytes)); }
    async bytes() { return natives.copy(blobOf(this).bytes); }
    async text() { return natives.decode(blobOf(this).bytes); }
    stream() { return internal.streamOf(blobOf(this).bytes); }
  }
  finish(Blob, 'Blob');
  shape(Blob, 'Blob', ['size', 'type']);

  function gather(parts) {
    const list = [];
    if (parts !== undefined)
      for (const part of parts) {
        const bytes = bytesOf(part);
        list[list.length] = bytes !== null ? bytes : internal.isBlob(part) ? blobOf(part).bytes : natives.encode(`${part}`);
      }
    return natives.concat(list);
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
      fileOf = (file) => { if (!isObject(file) || !(#file in file)) throw illegal(); return file.#file; };
      internal.isFile = (value) => isObject(value) && #file in value;
    }
    constructor(parts, name, options = undefined) {
      if (arguments.length < 2) throw wrongInit('File', arguments.length + 1, arguments.length === 0 ? 'Array' : 'string');
      super(parts, options);
      const modified = member(options, 'lastModified');
      this.#file = { name: natives.usv(`${name}`), modified: modified === undefined ? internal.host.now() : trunc(+modified) };
    }
    get name() { return fileOf(this).name; }
    get lastModified() { return fileOf(this).modified; }
  }
  finish(File, 'File');
  shape(File, 'File', ['name', 'lastModified', 'size', 'type']);

  internal.makeBlob = makeBlob;
  internal.makeFile = (bytes, name, type) => fillBlob(new File(undefined, name), bytes, type);
  internal.blobBytes = (blob) => blobOf(blob).bytes;
  internal.blobType = (blob) => blobOf(blob).type;
  internal.fileName = (file) => fileOf(file).name;
});
