window.serBench.board({});
