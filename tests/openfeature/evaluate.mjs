// Evaluates flagd definitions with flagd's own engine, as an SDK does that evaluates itself.
//
// In: {"now": seconds since 1970, "cases": [{"definition", "questions": [{"flag", "default", "context"}, …]}, …]}.
// Out: the values, in order, of all cases.

import { text } from 'node:stream/consumers';
import { FlagdCore } from '@openfeature/flagd-core';

const silent = { error() {}, warn() {}, info() {}, debug() {} };
const asked = JSON.parse(await text(process.stdin));
Date.now = () => asked.now * 1000;
const values = [];
for (const { definition, questions } of asked.cases) {
  const core = new FlagdCore(undefined, silent);
  core.setConfigurations(JSON.stringify(definition));
  for (const question of questions) {
    const method = typeof question.default === 'boolean' ? 'resolveBooleanEvaluation' : 'resolveStringEvaluation';
    values.push(core[method](question.flag, question.default, question.context, silent).value);
  }
}
process.stdout.write(JSON.stringify(values));
