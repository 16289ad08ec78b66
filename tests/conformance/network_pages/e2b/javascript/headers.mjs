import { Sandbox } from 'e2b';

// Set on its way out: the sandbox itself never sees it.
const rule = { transform: { headers: { 'X-Test-Token': 'set on the way' } } };
const sandbox = await Sandbox.create({ network: { rules: { 'httpbin.e2b.team': [rule] } } });
console.log((await sandbox.commands.run('curl -s https://httpbin.e2b.team/headers')).stdout);
