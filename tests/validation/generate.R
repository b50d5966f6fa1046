# Predictive densities of levels that are left out, by lme4's fits of the other rows and dense algebra:
#
#   python -c "from lmmfast import datasets; datasets.load('kb07').to_csv('kb07.csv', index=False)"
#   Rscript tests/validation/generate.R kb07.csv
#
# The numbers stand in tests/test_validation.py (lme4 1.1-31).
suppressMessages(library(lme4))
exact <- lmerControl(optimizer = "nloptwrap", optCtrl = list(xtol_abs = 1e-12, ftol_abs = 1e-12))

left_out <- function(formula, data, by, level) {
  rest <- data[data[[by]] != level, ]
  both <- rbind(rest, data[data[[by]] == level, ])
  fit <- lmer(formula, rest, control = exact)
  whole <- lFormula(formula, both)
  L <- whole$reTrms$Lambdat
  L@x <- getME(fit, "theta")[whole$reTrms$Lind]
  V <- as.matrix(sigma(fit)^2 * (crossprod(L %*% whole$reTrms$Zt) + Diagonal(nrow(both))))
  r <- both[[as.character(formula[[2]])]] - whole$X %*% fixef(fit)
  i <- seq_len(nrow(rest))
  W <- V[-i, i] %*% solve(V[i, i])
  m <- r[-i] - W %*% r[i]
  S <- V[-i, -i] - W %*% V[i, -i]
  c(elpd = -(determinant(2 * pi * S)$modulus + sum(m * solve(S, m))) / 2, rmse = sqrt(mean(m^2)))
}

for (s in c("308", "335", "352"))
  print(left_out(Reaction ~ Days + (Days | Subject), sleepstudy, "Subject", s), digits = 12)
kb07 <- read.csv(commandArgs(TRUE)[1])
kb07$subj <- factor(kb07$subj)
kb07$item <- factor(kb07$item)
for (i in c("1", "12"))
  print(left_out(RTtrunc ~ S + P + (1 + P | subj) + (1 | item), kb07, "item", i), digits = 12)
