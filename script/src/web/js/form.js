// FormData, and its two forms as a body.
(function (internal) {
  'use strict';
  const { p, h, natives, shape } = internal;
  const { TypeError, defineProperty, symbolIterator, arrayRemove } = p;
  const { finish, illegal, wrongArgument } = h;
  const pairs = internal.pairIterators('FormData Iterator');

  let formOf;
  class FormData {
    // Pairs of a name and a string or File.
    #list = [];
    static {
      formOf = (form) => { if (typeof form !== 'object' || form === null || !(#list in form)) throw illegal(); return form.#list; };
      internal.isForm = (value) => typeof value === 'object' && value !== null && #list in value;
    }
    append(name, value, filename = undefined) {
      const list = formOf(this);
      need(arguments, 2, 'append', 'File or Blob or string');
      list[list.length] = entry(`${name}`, value, filename);
    }
    delete(name) { const list = formOf(this); need(arguments, 1, 'delete'); remove(list, `${name}`, 0); }
    get(name) {
      const list = formOf(this);
      need(arguments, 1, 'get');
      name = `${name}`;
      for (let i = 0; i < list.length; i++) if (list[i][0] === name) return list[i][1];
      return null;
    }
    getAll(name) {
      const list = formOf(this);
      need(arguments, 1, 'getAll');
      name = `${name}`;
      const found = [];
      for (let i = 0; i < list.length; i++) if (list[i][0] === name) found[found.length] = list[i][1];
      return found;
    }
    has(name) { const list = formOf(this); need(arguments, 1, 'has'); return index(list, `${name}`) >= 0; }
    set(name, value, filename = undefined) {
      const list = formOf(this);
      need(arguments, 2, 'set', 'File or Blob or string');
      const made = entry(`${name}`, value, filename);
      const at = index(list, made[0]);
      if (at < 0) { list[list.length] = made; return; }
      list[at] = made;
      remove(list, made[0], at + 1);
    }
    forEach(callback, self = undefined) {
      const list = formOf(this);
      if (typeof callback !== 'function') throw wrongArgument('FormData', 'forEach', 1, 'function');
      for (let i = 0; i < list.length; i++) p.apply(callback, self, [list[i][1], list[i][0], this]);
    }
    entries() { return iterate(this, 'entries'); }
    keys() { return iterate(this, 'keys'); }
    values() { return iterate(this, 'values'); }
  }
  finish(FormData, 'FormData');
  defineProperty(FormData.prototype, symbolIterator, { value: FormData.prototype.entries, writable: true, configurable: true });
  shape(FormData, 'FormData', (form) => { const list = formOf(form); return { map: true, size: list.length, pairs: list }; });

  const need = (args, count, method, last = 'string') => { if (args.length < count) throw wrongArgument('FormData', method, args.length + 1, args.length + 1 === count ? last : 'string'); };
  const iterate = (form, kind) => { const list = formOf(form); return pairs((at) => list[at], kind); };
  const index = (list, name) => { for (let i = 0; i < list.length; i++) if (list[i][0] === name) return i; return -1; };
  function remove(list, name, from) {
    for (let i = list.length - 1; i >= from; i--) if (list[i][0] === name) arrayRemove(list, i);
  }
  function entry(name, value, filename) {
    name = natives.usv(name);
    if (!internal.isBlob(value)) return [name, natives.usv(`${value}`)];
    if (internal.isFile(value) && filename === undefined) return [name, value];
    const called = filename !== undefined ? `${filename}` : name;
    return [name, internal.makeFile(internal.blobBytes(value), called, internal.blobType(value))];
  }

  function quoted(name) {
    if (p.stringEndsWith(name, '\\')) throw new TypeError("Name or filename can't end with backslash");
    return natives.percentName(name);
  }
  // { bytes, type } of the form as multipart/form-data.
  internal.writeForm = (form) => {
    const list = formOf(form);
    const boundary = internal.hex(16);
    const parts = [];
    for (let i = 0; i < list.length; i++) {
      const name = list[i][0];
      const value = list[i][1];
      let head = `--${boundary}\r\nContent-Disposition: form-data; name="${quoted(name)}"`;
      if (typeof value === 'string') {
        parts[parts.length] = natives.encode(`${head}\r\n\r\n${value}\r\n`);
        continue;
      }
      head += `; filename="${quoted(internal.fileName(value))}"\r\nContent-Type: ${internal.blobType(value) || 'application/octet-stream'}`;
      parts[parts.length] = natives.encode(`${head}\r\n\r\n`);
      parts[parts.length] = internal.blobBytes(value);
      parts[parts.length] = natives.encode('\r\n');
    }
    parts[parts.length] = natives.encode(`--${boundary}--`);
    return { bytes: natives.concat(parts), type: `multipart/form-data; boundary=${boundary}` };
  };

  internal.readForm = (bytes, contentType) => {
    if (contentType === null) throw new TypeError('Parsing a Body as FormData requires a Content-Type header.');
    const media = natives.asciiLower(p.stringTrim(p.stringSplit(contentType, ';')[0]));
    const form = new FormData();
    const list = formOf(form);
    if (media === 'application/x-www-form-urlencoded') {
      const charset = natives.parameter(contentType, 'charset') ?? 'utf-8';
      if (natives.asciiLower(charset) !== 'utf-8') throw new TypeError('Non-utf-8 application/x-www-form-urlencoded body.');
      const flat = natives.formParse(natives.decode(bytes));
      for (let i = 0; i < flat.length; i += 2) list[list.length] = [flat[i], flat[i + 1]];
      return form;
    }
    if (media !== 'multipart/form-data')
      throw new TypeError('Unrecognized Content-Type header value. FormData can only parse the following MIME types: multipart/form-data, application/x-www-form-urlencoded');
    const boundary = natives.parameter(contentType, 'boundary') ?? null;
    if (boundary === null || boundary === '')
      throw new TypeError("No boundary string in Content-Type header. The multipart/form-data MIME type requires a boundary parameter, e.g. 'Content-Type: multipart/form-data; boundary=\"abcd\"'. See RFC 7578, section 4.");
    const parts = natives.multipart(bytes, boundary);
    if (typeof parts === 'string') throw new TypeError(parts);
    for (let i = 0; i < parts.names.length; i++) {
      const content = h.sub(bytes, parts.spans[2 * i], parts.spans[2 * i + 1]);
      const filename = parts.files[i];
      list[list.length] = [parts.names[i], filename === null || filename === undefined ? natives.decodeAll(content) : internal.makeFile(natives.copy(content), filename, parts.types[i])];
    }
    return form;
  };
});
