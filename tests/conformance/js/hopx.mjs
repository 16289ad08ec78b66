// What is of HopX's client in its tests.

import assert from 'node:assert/strict';

import { LIMIT_MS, Test } from './harness.mjs';

// Where an answer is not as the package declares it, and why.
const REST = 'as HopX documents it for REST: a map';
export const OTHERWISE = {
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

export class HopxTest extends Test {
  // What every call of the client that reaches the control plane is given.
  get account() {
    return { apiKey: this.place.apiKey, baseURL: this.place.url };
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

  // Past the client, for what it has no method for.
  request(path, options = {}, { apiKey, baseURL } = this.account) {
    const headers = { 'X-API-Key': apiKey };
    return fetch(baseURL + path, { signal: AbortSignal.timeout(LIMIT_MS), ...options, headers });
  }

  async delete(sandboxId, account) {
    const answer = await this.request(`/v1/sandboxes/${sandboxId}`, { method: 'DELETE' }, account);
    assert.ok([200, 404].includes(answer.status), `deleting ${sandboxId}: ${answer.status}`);
  }
}
