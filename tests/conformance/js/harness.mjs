// Tests of one package: registered, run side by side, and what each has shown.
//
//   test('a fact', ['Sandbox.create', …], async (t) => { … })
//
// A test names the members it shows, and must call them; parameters count when a test that passes has given them.

import assert from 'node:assert/strict';

import { rowName, within } from './package.mjs';

// Where an answer is not as the package declares it, and why.
const REST = 'as HopX documents it for REST: a map';
const OTHERWISE = {
  'Sandbox.getHealth.uptime': 'a number in all its other answers',
  'Sandbox.getAgentInfo.vm_port': 'a number in all its documents',
  'Sandbox.getMetricsSnapshot.requests_total': REST,
  'Sandbox.getMetricsSnapshot.avg_duration_ms': REST,
  'Sandbox.getAgentMetrics.requests_total': REST,
  'Sandbox.getAgentMetrics.avg_duration_ms': REST,
  'Sandbox.healthCheck.uptime_seconds': 'declared as the health of an agent; this one is of the control plane',
  ...Object.fromEntries(
    ['success', 'stdout', 'stderr', 'exit_code', 'execution_time'].map((name) => [
      `Commands.run.${name}`,
      'in the background there is no result yet',
    ]),
  ),
};

const AT_ONCE = 6;
const LIMIT_MS = 25_000;

const tests = [];

export function test(name, shows, body) {
  tests.push({ name, shows, body });
}

export class Test {
  constructor({ name, shows, body }, place) {
    Object.assign(this, { name, shows, body, place, called: new Set(), mismatched: [], endings: [] });
  }

  get sdk() {
    return this.place.sdk.exported;
  }

  // What every call of the client that reaches the control plane is given.
  get account() {
    return { apiKey: this.place.apiKey, baseURL: this.place.url };
  }

  // Whether the installed version has it at all.
  has(member, parameter = null) {
    return this.place.sdk.rows.some((row) => row.member === member && row.parameter === parameter);
  }

  // The same of an installation with a domain, where sandboxes may call back to this machine.
  get open() {
    return { apiKey: this.place.facts.ATOLL_OPEN_KEY, baseURL: this.place.facts.ATOLL_OPEN_URL };
  }

  async create(options = {}) {
    const template = options.templateId ? {} : { template: 'base' };
    const given = { ...template, ...this.account, ...options };
    const sandbox = await this.sdk.Sandbox.create(given);
    this.afterwards(() => this.delete(sandbox.sandboxId, given));
    return sandbox;
  }

  afterwards(ending) {
    this.endings.unshift(ending);
  }

  // Past the client, for what it has no method for.
  request(path, options = {}, { apiKey, baseURL } = this.account) {
    const headers = { 'X-API-Key': apiKey };
    return fetch(baseURL + path, { signal: AbortSignal.timeout(LIMIT_MS), ...options, headers });
  }

  async delete(sandboxId, account) {
    const answer = await this.request(`/v1/sandboxes/${sandboxId}`, { method: 'DELETE' }, account);
    assert.ok([200, 404].includes(answer.status), `deleting ${sandboxId}: ${answer.status}`);
  }

  // The error that the call ends with. It must be of exactly this class: all are HopxErrors.
  async raises(name, call) {
    const error = await call().then(
      (value) => assert.fail(`no ${name}, but ${JSON.stringify(value)}`),
      (raised) => raised,
    );
    assert.equal(error?.constructor, this.sdk[name], `not a ${name}: ${error?.stack ?? error}`);
    this.called.add(rowName(name));
    return error;
  }
}

// [{ test, outcome, error, seconds, shows, called, mismatched }]
export async function runAll(place) {
  const waiting = [...tests];
  const results = [];
  const worker = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) results.push(await run(new Test(next, place)));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return results;
}

// What is as declared after all need not stand in the table.
export function needless(results) {
  const seen = new Set(results.flatMap((each) => each.mismatched));
  return Object.keys(OTHERWISE).filter((each) => !seen.has(each));
}

async function run(test) {
  const begun = performance.now();
  const error = await attempt(test);
  return {
    test: test.name,
    outcome: error ? 'failed' : 'passed',
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
    const silent = test.shows.filter((member) => !test.called.has(rowName(member)));
    assert.deepEqual(silent, [], 'it says that it shows what it has not called');
    const unknown = test.mismatched.filter((each) => !OTHERWISE[each.split(':')[0]]);
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
