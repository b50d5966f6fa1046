# Parametric bootstraps of likelihood ratios by pbkrtest, for tests/test_pb.py.
#   Rscript tests/simulated/pbmodcomp.R        (lme4, pbkrtest 0.5.2, jsonlite)
suppressMessages({library(lme4); library(pbkrtest); library(jsonlite)})
set.seed(3)
d <- expand.grid(s = 1:12, i = 1:8, rep = 1:2)
d$f <- letters[1 + d$i %% 3]
d$x <- round(rnorm(nrow(d)), 3)
d$y <- round(2 + 0.9 * (d$f == "b") + 0.7 * rnorm(12)[d$s] + 0.4 * rnorm(8)[d$i] + rnorm(nrow(d)), 3)
control <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-8), check.conv.singular = "ignore")
fit <- function(f, data) suppressMessages(lmer(as.formula(f), data, REML = FALSE, control = control))
pairs <- list(
  list(name = "sleepstudy", data = sleepstudy, large = "Reaction ~ Days + (Days | Subject)", small = "Reaction ~ 1 + (Days | Subject)"),
  list(name = "factor", data = d, large = "y ~ f + (1 | s) + (1 | i)", small = "y ~ 1 + (1 | s) + (1 | i)"),
  list(name = "variance", data = d, large = "y ~ f + x + (1 | s) + (1 | i)", small = "y ~ f + x + (1 | s)"))
N <- 2000
out <- lapply(pairs, function(p) {
  test <- suppressMessages(suppressWarnings(PBmodcomp(fit(p$large, p$data), fit(p$small, p$data), nsim = N, seed = 1)))
  list(name = p$name, large = p$large, small = p$small, table = summary(test)$test, ref = sort(round(as.numeric(test$ref), 5)), n = N,
       p = unname(test$test["PBtest", "p.value"]), positive = unname(test$samples["npos"]))
})
write_json(list(data = d, cases = out), "tests/simulated/pbmodcomp.json", auto_unbox = TRUE, digits = 8)
