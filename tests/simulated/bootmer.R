# Distributions of lme4's parametric bootstrap of sleepstudy, for tests/test_bootstrap_lme4.py.
#   Rscript tests/simulated/bootmer.R        (lme4, jsonlite)
suppressMessages({library(lme4); library(jsonlite)})
control <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-8), check.conv.singular = "ignore")
m <- lmer(Reaction ~ Days + (Days | Subject), sleepstudy, control = control)
numbers <- function(fit) {
  v <- as.data.frame(VarCorr(fit))
  c(intercept = unname(fixef(fit)[1]), days = unname(fixef(fit)[2]), sd_intercept = v$sdcor[1], sd_days = v$sdcor[2],
    cor = v$sdcor[3], sigma = sigma(fit), se_days = sqrt(vcov(fit)[2, 2]))
}
boot <- suppressMessages(suppressWarnings(bootMer(m, numbers, nsim = 2000, seed = 1)))
own <- as.data.frame(boot$t)
write_json(list(estimates = as.list(numbers(m)), sorted = lapply(own, function(x) sort(signif(x, 6))),
                singular = mean(is.na(own$cor) | abs(own$cor) > 1 - 1e-4 | own$sd_days < 1e-3)),
           "tests/simulated/bootmer.json", auto_unbox = TRUE, digits = 8, na = "null")
