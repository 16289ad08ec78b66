import { Sandbox } from 'e2b';

const sandbox = await Sandbox.create({ network: { allowPublicTraffic: false } });
await sandbox.commands.run('python -m http.server 8080', { background: true });
const url = `https://${sandbox.getHost(8080)}`;

// Without the token nobody gets in.
console.log((await fetch(url)).status);
console.log((await fetch(url, { headers: { 'e2b-traffic-access-token': sandbox.trafficAccessToken } })).status);
