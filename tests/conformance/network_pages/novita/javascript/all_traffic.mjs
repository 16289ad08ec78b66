import { ALL_TRAFFIC, Sandbox } from 'novita-sandbox';

const byName = await Sandbox.create({ network: { denyOut: [ALL_TRAFFIC] } });
const byNetwork = await Sandbox.create({ network: { denyOut: ['0.0.0.0/0'] } });
