import { Sandbox } from 'novita-sandbox';

const withInternet = await Sandbox.create({ allowInternetAccess: true });
const withoutInternet = await Sandbox.create({ allowInternetAccess: false });
