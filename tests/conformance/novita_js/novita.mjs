// What is of Novita's client in its tests.

import { E2BTest } from '../e2b_js/e2b.mjs';

// Where an answer is not as the package declares it, and why.
export const OTHERWISE = {};

export class NovitaTest extends E2BTest {
  get connection() {
    const { NOVITA_API_KEY: apiKey, NOVITA_DOMAIN: domain } = this.facts;
    return { apiKey, apiUrl: `https://api.${domain}`, sandboxUrl: `https://sandbox.${domain}`, domain };
  }

  get logs() {
    return true;
  }

  get minor() {
    return 2;
  }

  get sendsTimes() {
    return true;
  }

  get tellsAll() {
    return true;
  }
}

const HEIRS = ['CodeInterpreterSandbox', 'DesktopSandbox'];

// Without the rows of what a class has from `Sandbox`: they stand there.
export function ownRows(rows) {
  const all = new Set(rows.map(({ member }) => member));
  return rows.filter(({ member }) => {
    const [, heir, name] = /^(\w+)([.#]\w+)$/.exec(member) ?? [];
    return !HEIRS.includes(heir) || !['.', '#'].some((mark) => all.has(`Sandbox${mark}${name.slice(1)}`));
  });
}
