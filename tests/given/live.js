const core = require(process.argv[1]);
const o = JSON.parse(process.argv[2]);
console.log(JSON.stringify({
  run: core.train(o), staircase: core.staircase(o), moments: core.moments(o), start: core.start(),
  shares: core.shares(o, core.train(o).snapshots), turn: core.turn(o, core.train(o).snapshots),
  skip: core.skip(o),
}));
