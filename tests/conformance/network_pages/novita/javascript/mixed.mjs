import { ALL_TRAFFIC, Sandbox } from 'novita-sandbox';

const sandbox = await Sandbox.create({
  network: { allowOut: ['api.example.com', '*.github.com', '8.8.8.0/24'], denyOut: [ALL_TRAFFIC] },
});
