# Power by lme4 and lmerTest: 16 subjects x 8 items in a Latin square, 1,500 simulated studies.
# Rscript generate.R > power.json
suppressPackageStartupMessages({library(lme4); library(lmerTest)})
set.seed(1)
n <- 1500
d <- expand.grid(item = 0:7, subj = 0:15)
d$cond <- factor(c("a", "b")[(d$item + d$subj) %% 2 + 1])
x <- as.numeric(d$cond == "b")
effect <- 70
one <- function() {
  d$rt <- effect * x + rnorm(16, sd = 80)[d$subj + 1] + rnorm(8, sd = 30)[d$item + 1] + rnorm(128, sd = 200)
  fit <- suppressMessages(suppressWarnings(lmer(rt ~ cond + (1 | subj) + (1 | item), d)))
  ml <- suppressMessages(suppressWarnings(lme4::lmer(rt ~ cond + (1 | subj) + (1 | item), d, REML = FALSE)))
  null <- suppressMessages(suppressWarnings(lme4::lmer(rt ~ 1 + (1 | subj) + (1 | item), d, REML = FALSE)))
  row <- coef(summary(fit))["condb", ]
  chisq <- 2 * as.numeric(logLik(ml) - logLik(null))
  c(row[["Estimate"]], row[["df"]], row[["Pr(>|t|)"]], 2 * pnorm(-abs(row[["t value"]])),
    pchisq(chisq, 1, lower.tail = FALSE), isSingular(fit, tol = 1e-4))
}
found <- replicate(n, one())
hit <- found[3, ] < 0.05
cat(sprintf('{"n": %d, "effect": %g, "satterthwaite": %.6f, "z": %.6f, "lrt": %.6f, "singular": %.6f,\n', n, effect,
            mean(hit), mean(found[4, ] < 0.05), mean(found[5, ] < 0.05), mean(found[6, ])))
cat(sprintf(' "type_m": %.6f, "mean_df": %.6f, "sd_estimate": %.6f, "lme4": "%s", "lmerTest": "%s"}\n',
            mean(abs(found[1, hit])) / effect, mean(found[2, ]), sd(found[1, ]), packageVersion("lme4"), packageVersion("lmerTest")))
