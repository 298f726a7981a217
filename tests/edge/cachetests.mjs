// Runs http-cache-tests through an edge, and says what was found; see test_caches.py.
//
//   node cachetests.mjs PACKAGES EDGE_URL
import { pathToFileURL } from "node:url";

const [packages, edge] = process.argv.slice(2);
const suite = `${packages}/http-cache-tests`;
const load = (file) => import(pathToFileURL(file));

const { runTests, getResults } = await load(`${suite}/client/runner.mjs`);
const { default: sets } = await load(`${suite}/tests/index.mjs`);
const { default: fetch } = await load(`${packages}/node-fetch/lib/index.mjs`);

await runTests(sets, fetch, false, edge);
const results = getResults();
const tests = sets.flatMap((set) => set.tests).filter(({ id }) => id in results);
console.log(JSON.stringify(tests.map((test) => ({
    id: test.id,
    kind: test.kind ?? "required",
    after: test.depends_on ?? [],
    passed: results[test.id] === true,
    found: results[test.id] === true ? [] : results[test.id],
}))));
process.exit();
