# Tests of one variance by RLRsim, and quantiles of its simulated ratios, for tests/test_rlr.py.
#   Rscript tests/simulated/rlrsim.R        (lme4, RLRsim 3.1-8, jsonlite)
suppressMessages({library(lme4); library(RLRsim); library(jsonlite)})
set.seed(20)
n <- 90
d <- data.frame(g = rep(1:12, times = c(1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 18)), h = sample(1:9, n, TRUE),
                x = round(rnorm(n), 3), z = round(runif(n), 3))
d$y <- round(1 + 0.5 * d$x + 0.35 * rnorm(12)[d$g] + 0.6 * rnorm(9)[d$h] + rnorm(n), 3)
probs <- c(0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
N <- 1e5
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10), check.conv.singular = "ignore")
fit <- function(f, reml) suppressMessages(lmer(as.formula(f), d, REML = reml, control = tight))
describe <- function(test, draws) list(statistic = unname(test$statistic[length(test$statistic)]), p = test$p.value,
  zero = mean(draws < 1e-8), probs = probs, quantiles = unname(quantile(draws, probs)), draws = N)
out <- list()
for (f in c("y ~ x + (1 | g)", "y ~ x + z + (1 | h)", "y ~ x + (0 + x | g)", "y ~ 1 + (1 | g)")) {
  m <- fit(f, TRUE)
  X <- getME(m, "X"); Z <- as.matrix(getME(m, "Z"))
  draws <- RLRTSim(X, Z, qr(X), diag(ncol(Z)), nsim = N, seed = 1)
  out[[length(out) + 1]] <- c(list(kind = "restricted", formula = f), describe(exactRLRT(m, nsim = N, seed = 1), draws))
}
# the term alone, with the term and the others, without the term
beside <- list(c("y ~ x + (1 | g)", "y ~ x + (1 | g) + (1 | h)", "y ~ x + (1 | h)"),
               c("y ~ x + (1 | h)", "y ~ x + (1 | g) + (1 | h)", "y ~ x + (1 | g)"),
               c("y ~ x + (0 + x | g)", "y ~ x + (1 + x || g)", "y ~ x + (1 | g)"))
for (f in beside) {
  m <- fit(f[1], TRUE)
  test <- exactRLRT(m, fit(f[2], TRUE), fit(f[3], TRUE), nsim = N, seed = 1)
  X <- getME(m, "X"); Z <- as.matrix(getME(m, "Z"))
  draws <- RLRTSim(X, Z, qr(X), diag(ncol(Z)), nsim = N, seed = 1)
  out[[length(out) + 1]] <- c(list(kind = "beside", formula = f[2], hypothesis = f[3]), describe(test, draws))
}
for (f in list(c("y ~ x + (1 | g)", "y ~ x"), c("y ~ x + z + (1 | g)", "y ~ x"), c("y ~ x + z + (1 | h)", "y ~ 1"))) {
  m <- fit(f[1], FALSE); m0 <- lm(as.formula(f[2]), d)
  X <- getME(m, "X"); Z <- as.matrix(getME(m, "Z")); q <- ncol(X) - length(coef(m0))
  draws <- LRTSim(X, Z, q, diag(ncol(Z)), nsim = N, seed = 1)
  out[[length(out) + 1]] <- c(list(kind = "whole", formula = f[1], hypothesis = f[2]),
                              describe(exactLRT(m, m0, nsim = N, seed = 1), draws))
}
write_json(list(data = d, cases = out), "tests/simulated/rlrsim.json", auto_unbox = TRUE, digits = 10)
