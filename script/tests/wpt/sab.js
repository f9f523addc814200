// Buffers of both kinds, where nobody keeps the constructor of the shared ones away.
self.createBuffer = (type, length, options) => new globalThis[type](length, options);
