// What CommonJS modules run in. A module's body runs once, when it is first required.

const { create, defineProperty, getOwnPropertyNames, hasOwn } = Object;

/** The state of a module that has not run: its body, what it may require, and its name. */
export function prepare(body, modules, name) {
  return { body, modules, module: { exports: {}, id: name, loaded: false, children: [], paths: [] } };
}

/** Runs the body, unless it has been begun, and gives what it exports by now. */
export function load(state) {
  const { body, modules, module } = state;
  if (body !== null) {
    state.body = null;
    const require = (specifier) => {
      if (typeof specifier === "string" && hasOwn(modules, specifier)) return modules[specifier]();
      const error = new Error(`Cannot find module '${specifier}' in '${module.id}'`);
      error.code = "MODULE_NOT_FOUND";
      throw error;
    };
    body.call(module.exports, module, module.exports, require);
    module.loaded = true;
  }
  return module.exports;
}

const wrapped = new WeakMap();

/** What `require` gives of a module with `export`: its names, and a mark that `default` is one of them. */
export function fromModule(namespace) {
  if (hasOwn(namespace, "module.exports")) return namespace["module.exports"];
  let value = wrapped.get(namespace);
  if (value === undefined) {
    value = create(null);
    for (const name of getOwnPropertyNames(namespace)) {
      defineProperty(value, name, { get: () => namespace[name], enumerable: true, configurable: true });
    }
    defineProperty(value, "__esModule", { value: true });
    wrapped.set(namespace, value);
  }
  return value;
}

/** What `require` gives of a module of the runtime, of JSON or of text: its value. */
export function fromValue(namespace) {
  return "default" in namespace ? namespace.default : namespace;
}
