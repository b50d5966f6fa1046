# CPU seconds of pbkrtest's and RLRsim's tests, for ratios.py: Rscript ratios.R pb|rlr FORMULA [FORMULA0] FILE N
suppressMessages({library(lme4); library(pbkrtest); library(RLRsim)})
args <- commandArgs(TRUE)
data <- read.csv(args[length(args) - 1]); n <- as.integer(args[length(args)])
fit <- suppressMessages(lmer(as.formula(args[2]), data, REML = args[1] == "rlr"))
if (args[1] == "pb") fit0 <- suppressMessages(lmer(as.formula(args[3]), data, REML = FALSE))
time <- system.time(suppressMessages(suppressWarnings(
  if (args[1] == "pb") PBmodcomp(fit, fit0, nsim = n, seed = 1) else exactRLRT(fit, nsim = n, seed = 1))))
cat(sum(time[c("user.self", "sys.self")]))
