// Secrets of stores, as `env` has them.
(function (internal) {
  'use strict';
  const { p, h, dispatch } = internal;
  const { Error, TypeError, freeze } = p;
  const { finish, illegal, rejected, resolved } = h;

  let stateOf;
  class SecretsStoreSecret {
    #state;
    static { stateOf = (secret) => { if (typeof secret !== 'object' || secret === null || !(#state in secret)) throw illegal(); return secret.#state; }; }
    constructor(secret, state) { if (secret !== internal) throw new TypeError('Illegal constructor'); this.#state = state; }
    get() {
      try {
        const { value, reason } = stateOf(this);
        return reason === undefined ? resolved(value) : rejected(new Error(reason));
      } catch (error) { return rejected(error); }
    }
  }
  finish(SecretsStoreSecret, 'SecretsStoreSecret');
  internal.shape(SecretsStoreSecret, 'SecretsStoreSecret', []);
  // Only a type of the platform's, no global.
  delete internal.classes.SecretsStoreSecret;
  // The value, or why there is none.
  dispatch.storeSecret = (value, reason) => freeze(new SecretsStoreSecret(internal, { __proto__: null, value, reason }));
});
