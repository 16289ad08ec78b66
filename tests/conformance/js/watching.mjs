// Watching what a test calls. `context` holds the test that runs, and nothing inside a call of the client, so that only
// what the test itself calls is noted.

import { AsyncLocalStorage } from 'node:async_hooks';

const context = new AsyncLocalStorage();

export const within = (test, work) => context.run(test, work);

export const rowName = (member, parameter = null) => (parameter === null ? member : `${member}(${parameter})`);

// Replaces a function, or a getter, by one that notes: `rows(args)` names what the call shows, `look(test, value)` sees
// its result, once it is there.
export function watch(holder, name, { rows, look }) {
  const property = Object.getOwnPropertyDescriptor(holder, name);
  const part = property.get ? 'get' : 'value';
  const original = property[part];
  const noted = function (...args) {
    const test = context.getStore();
    if (!test) return original.apply(this, args);
    for (const row of rows(args)) test.called.add(row);
    const result = context.exit(() => original.apply(this, args));
    const seen = (value) => look(test, value);
    if (typeof result?.then === 'function') result.then(seen, () => {});
    else seen(result);
    return outside(result);
  };
  Object.defineProperty(holder, name, { ...property, [part]: noted });
}

// A generator runs where its consumer is: each step has to be taken outside the test too.
function outside(result) {
  if (typeof result?.next !== 'function' || !result[Symbol.asyncIterator]) return result;
  const step = (name) => (value) => context.exit(() => result[name](value));
  return {
    next: step('next'),
    return: step('return'),
    throw: step('throw'),
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}
