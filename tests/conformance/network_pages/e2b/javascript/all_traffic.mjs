import { ALL_TRAFFIC, Sandbox } from 'e2b';

const sandbox = await Sandbox.create({ network: { denyOut: [ALL_TRAFFIC] } });
const byContext = await Sandbox.create({ network: { denyOut: ({ allTraffic }) => [allTraffic] } });
