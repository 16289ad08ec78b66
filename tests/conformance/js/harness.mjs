// Tests of one package: registered, run side by side, and what each has shown.
//
//   test('a fact', ['Sandbox.create', …], async (t) => { … })
//
// A test names the members it shows, and must call those that the installed version has; parameters count when a test that passes has given them. What
// it is given is of the place where it runs: `sdk` (the package, see package.mjs), `facts` (its environment),
// `otherwise` (where an answer is not as the package declares it, and why).

import assert from 'node:assert/strict';

import { rowName, within } from './watching.mjs';

const AT_ONCE = 6;
export const LIMIT_MS = 60_000;

const tests = [];

export function test(name, shows, body) {
  tests.push({ name, shows, body });
}

class Absent extends Error {}

export class Test {
  constructor({ name, shows, body }, place) {
    Object.assign(this, { name, shows, body, place, called: new Set(), mismatched: [], endings: [] });
  }

  get sdk() {
    return this.place.sdk.exported;
  }

  // Whether the installed version has it at all.
  has(member, parameter = null) {
    return this.place.sdk.rows.some((row) => row.member === member && row.parameter === parameter);
  }

  // Ends the test here, unshown, where the installed version has not what it is about.
  needs(there) {
    if (!there) throw new Absent();
  }

  afterwards(ending) {
    this.endings.unshift(ending);
  }

  // The error that the call ends with. It must be of exactly this class, as all are of one family, if there is this class.
  async raises(name, call) {
    const error = await call().then(
      (value) => assert.fail(`no ${name}, but ${JSON.stringify(value)}`),
      (raised) => raised,
    );
    if (!this.sdk[name]) return error;
    assert.equal(error?.constructor, this.sdk[name], `not a ${name}: ${error?.stack ?? error}`);
    this.called.add(rowName(name));
    return error;
  }
}

// [{ test, outcome, error, seconds, shows, called, mismatched }]
export async function runAll(place, Kind) {
  const waiting = [...tests];
  const results = [];
  const worker = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) results.push(await run(new Kind(next, place)));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return results;
}

// What is as declared after all need not stand in the table.
export function needless(results, { otherwise }) {
  const seen = new Set(results.flatMap((each) => each.mismatched));
  return Object.keys(otherwise).filter((each) => !seen.has(each));
}

async function run(test) {
  const begun = performance.now();
  const none = test.shows.length > 0 && !test.shows.some((member) => test.has(member));
  const failure = none ? new Absent() : await attempt(test);
  const error = failure instanceof Absent ? null : failure;
  return {
    test: test.name,
    outcome: error ? 'failed' : failure ? 'absent' : 'passed',
    error: error && String(error.stack ?? error),
    seconds: (performance.now() - begun) / 1000,
    shows: test.shows,
    called: [...test.called],
    mismatched: test.mismatched.map((each) => each.split(':')[0]),
  };
}

async function attempt(test) {
  let failure = null;
  try {
    await limited(within(test, () => test.body(test)));
    const silent = test.shows.filter((member) => test.has(member) && !test.called.has(rowName(member)));
    assert.deepEqual(silent, [], 'it says that it shows what it has not called');
    const unknown = test.mismatched.filter((each) => !test.place.otherwise[each.split(':')[0]]);
    assert.deepEqual(unknown, [], 'answers that are not as the package declares them');
  } catch (error) {
    failure = error;
  }
  for (const ending of test.endings) {
    await ending().catch((error) => (failure ??= error));
  }
  return failure;
}

function limited(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done within ${LIMIT_MS / 1000} s`)), LIMIT_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
